"""Runs a problem's own checker inside the sandbox, in a run of its own where the model's program has never been.

Handed to the sandbox as text. The checker finds three files and their names as its arguments, in the order of
open-r1/codeforces: `checker.py input.txt correct_output.txt solution_output.txt`.
"""

import os
import sys

payload, channel = (int(descriptor) for descriptor in sys.argv[1:])
_FILES = ("input.txt", "correct_output.txt", "solution_output.txt")

with open(payload, "rb") as payload_file:
    job = eval(payload_file.read())  # written by the judge
os.close(channel)
for name in _FILES:
    with open(name, "wb") as file:
        file.write(job[name])
sys.argv = ["checker.py", *_FILES]
main = type(sys)("__main__")
main.__dict__["__file__"] = "checker.py"
sys.modules["__main__"] = main
exec(compile(job["checker"], "checker.py", "exec", dont_inherit=True), main.__dict__)
