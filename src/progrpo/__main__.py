"""`python -m progrpo` is `progrpo`."""

from progrpo.cli import main

if __name__ == "__main__":
    main()
