
// The browser of disagreements: two runs, one benchmark, its problems by difference, and completions of both sides.

const share = (side) => side.correct / side.n;

function disputedRow(problem, a, b, show) {
  const [left, right] = [problem.sides[a], problem.sides[b]];
  const button = element("button", { type: "button", className: "open", textContent: problem.id });
  button.addEventListener("click", () => show(problem, button));
  const cells = [element("td", {}, [button]), element("td", {}, [element("div", { className: "excerpt", textContent: problem.prompt })])];
  for (const side of [left, right]) {
    const cell = element("td", { className: "number", textContent: `${side.correct} / ${side.n}` });
    cell.dataset.value = share(side);
    cells.push(cell);
  }
  const points = 100 * (share(left) - share(right));
  const cell = element("td", { className: "number", textContent: number(points, 1, true) });
  cell.dataset.value = Math.abs(points);
  return element("tr", {}, [...cells, cell]);
}

function sideRow(sample) {
  const text = [element("div", { className: "text", textContent: sample.text })];
  if (sample.extracted) text.push(element("div", { className: "canonical", textContent: `answer ${sample.extracted}` }));
  const cells = [element("td", {}, text), element("td", { className: "verdict" }, verdictOf(sample))];
  cells.push(element("td", { className: "number", textContent: String(sample.tokens) }));
  return element("tr", {}, cells);
}

function sidePanel(name, index, side) {
  const panel = element("div", { className: "group" }, [runHeading(name, index)]);
  panel.append(element("p", { className: "note", textContent: `${side.correct} of ${side.n} correct; ${side.samples.length} shown` }));
  const headings = ["completion", "verdict", "tokens"].map((label, column) =>
    element("th", { className: column > 1 ? "number" : "", textContent: label }),
  );
  const table = element("table", {}, [
    element("thead", {}, [element("tr", {}, headings)]),
    element("tbody", {}, side.samples.map(sideRow)),
  ]);
  makeSortable(table);
  panel.append(element("div", { className: "scroll" }, [table]));
  return panel;
}

function browseDisputes({ runs, benchmarks }) {
  const [pick, pickA, pickB] = ["benchmark", "a", "b"].map((name) => document.getElementById(`dispute-${name}`));
  const list = document.getElementById("dispute-list");
  const showProblem = (problem, button) => {
    const [a, b] = [Number(pickA.value), Number(pickB.value)];
    for (const other of list.querySelectorAll("button.open")) other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    const facts = [element("div", { className: "text", textContent: problem.prompt })];
    if (problem.answer) facts.push(element("div", { className: "canonical", textContent: `expected ${problem.answer}` }));
    document.getElementById("dispute-problem").replaceChildren(...facts);
    document.getElementById("dispute-sides").replaceChildren(...[a, b].map((run) => sidePanel(runs[run], run, problem.sides[run])));
  };
  const showList = () => {
    const benchmark = benchmarks[pick.selectedIndex];
    const [a, b] = [Number(pickA.value), Number(pickB.value)];
    const shown = benchmark.kept.filter(({ sides }) => a in sides && b in sides && share(sides[a]) !== share(sides[b]));
    shown.sort((one, other) => {
      const gap = ({ sides }) => Math.abs(share(sides[a]) - share(sides[b]));
      return gap(other) - gap(one);
    });
    const differing = benchmark.differing[`${Math.min(a, b)}-${Math.max(a, b)}`] ?? 0;
    document.getElementById("dispute-count").textContent =
      `${differing} of ${benchmark.problems} problems have another share of correct completions; ${shown.length} of them are kept here. Click one.`;
    for (const name of ["problem", "sides"]) document.getElementById(`dispute-${name}`).replaceChildren();
    const headings = ["problem", "prompt", runs[a], runs[b], "difference, points"].map((label, column) =>
      element("th", { className: column > 1 ? "number" : "", textContent: label }),
    );
    const table = element("table", {}, [
      element("thead", {}, [element("tr", {}, headings)]),
      element("tbody", {}, shown.map((problem) => disputedRow(problem, a, b, showProblem))),
    ]);
    makeSortable(table);
    list.replaceChildren(table);
    list.querySelector("button.open")?.click();
  };
  const showBenchmark = () => {
    const having = benchmarks[pick.selectedIndex].runs;
    const options = () => having.map((run) => element("option", { value: String(run), textContent: runs[run] }));
    pickA.replaceChildren(...options());
    pickB.replaceChildren(...options());
    [pickA.selectedIndex, pickB.selectedIndex] = [1, 0];
    showList();
  };
  pick.replaceChildren(...benchmarks.map(({ name }) => element("option", { textContent: name })));
  pick.addEventListener("change", showBenchmark);
  for (const select of [pickA, pickB]) select.addEventListener("change", showList);
  document.getElementById("dispute").hidden = false;
  showBenchmark();
}

const disputed = JSON.parse(document.getElementById("data").textContent).disputes;
if (disputed.benchmarks.length) browseDisputes(disputed);
document.documentElement.dataset.ready = "yes";
