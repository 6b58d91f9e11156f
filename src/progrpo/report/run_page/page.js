"use strict";

// Fills the browser of completions of training, and makes tables sortable. Every text from a run goes in as textContent.

addEventListener("error", (event) => {
  const banner = document.getElementById("error");
  if (banner) {
    banner.textContent = `The script of this page failed: ${event.message}`;
    banner.hidden = false;
  }
});

const MARKS = { correct: "✓", wrong: "✗" };

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function number(value, digits, signed = false) {
  if (value === undefined || value === null) return "–";
  const text = value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "");
  return (signed && Number(text) > 0 ? `+${text}` : text).replace("-", "−");
}

// Cells sort by data-value, else by the number or text they show.
function sortBy(table, column, heading) {
  const body = table.tBodies[0];
  const down = heading.getAttribute("aria-sort") !== "descending";
  const value = (row) => {
    const cell = row.cells[column];
    const shown = cell.dataset.value ?? cell.textContent.trim().replace("−", "-");
    return shown !== "" && !Number.isNaN(Number(shown)) ? Number(shown) : shown === "–" ? -Infinity : shown;
  };
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const rows = [...body.rows].sort((a, b) => order(value(a), value(b)) * (down ? -1 : 1));
  body.append(...rows);
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = element("button", { type: "button" }, [...heading.childNodes]);
    button.addEventListener("click", () => sortBy(table, column, heading));
    heading.replaceChildren(button);
  });
}

function verdictOf(row) {
  const kind = row.status in MARKS ? row.status : "other";
  const verdict = [element("span", { className: kind, textContent: `${MARKS[row.status] ?? "○"} ${row.status.replace("_", " ")}` })];
  if (row.detail) verdict.push(element("small", { textContent: row.detail }));
  if (row.truncated) verdict.push(element("small", { textContent: "cut at the length limit" }));
  return verdict;
}

function completionRow(row, hasShift) {
  const text = [element("div", { className: "text", textContent: row.text })];
  if (row.canonical && row.canonical !== row.text) {
    text.push(element("div", { className: "canonical", textContent: row.canonical }));
  }
  const cells = [element("td", {}, text), element("td", { className: "verdict" }, verdictOf(row))];
  cells.push(element("td", { className: "number", textContent: number(row.confidence, 3) }));
  if (hasShift) cells.push(element("td", { className: "number", textContent: number(row.shift, 3, true) }));
  cells.push(element("td", { className: "number", textContent: number(row.advantage, 2, true) }));
  return element("tr", {}, cells);
}

function runHeading(name, index) {
  const title = element("span", { className: "run", textContent: name });
  const colours = Number(document.documentElement.dataset.colours);
  title.style.setProperty("--c", `var(--run-${index % colours})`);
  return element("h3", {}, [title]);
}

function groupPanel(name, index, rows) {
  const panel = element("div", { className: "group" }, [runHeading(name, index)]);
  if (rows === null) {
    panel.append(element("p", { className: "note", textContent: "This run did not meet the problem at this step." }));
    return panel;
  }
  const correct = rows.filter((row) => row.status === "correct");
  const forms = new Set(correct.map((row) => row.canonical).filter(Boolean));
  const facts = [`${correct.length} of ${rows.length} correct`];
  if (forms.size) facts.push(`${forms.size} distinct`);
  if (rows[0].prompt_confidence !== undefined) facts.push(`c(q) ${number(rows[0].prompt_confidence, 3)}`);
  panel.append(element("p", { className: "note", textContent: facts.join(", ") }));

  const hasShift = rows.some((row) => row.shift !== undefined);
  const headings = ["completion", "verdict", "c(o)", ...(hasShift ? ["shift"] : []), "A"].map((label, column) =>
    element("th", { className: column > 1 ? "number" : "", textContent: label }),
  );
  const sorted = [...rows].sort((a, b) => (b.advantage ?? 0) - (a.advantage ?? 0));
  const table = element("table", {}, [
    element("thead", {}, [element("tr", {}, headings)]),
    element("tbody", {}, sorted.map((row) => completionRow(row, hasShift))),
  ]);
  makeSortable(table);
  panel.append(element("div", { className: "scroll" }, [table]));
  return panel;
}

function browse(data) {
  const steps = document.getElementById("pick-step");
  const problems = document.getElementById("pick-problem");
  const shown = () => data.steps[steps.selectedIndex].problems[problems.selectedIndex];
  const showProblem = () => {
    const problem = shown();
    const facts = [element("div", { className: "text", textContent: problem.prompt })];
    if (problem.answer) facts.push(element("div", { className: "canonical", textContent: `expected ${problem.answer}` }));
    document.getElementById("problem").replaceChildren(...facts);
    document.getElementById("groups").replaceChildren(
      ...problem.groups.map((rows, index) => groupPanel(data.runs[index], index, rows)),
    );
  };
  const showStep = () => {
    const options = data.steps[steps.selectedIndex].problems.map(({ id }) => element("option", { textContent: id }));
    problems.replaceChildren(...options);
    showProblem();
  };
  steps.replaceChildren(...data.steps.map(({ step }) => element("option", { textContent: String(step) })));
  steps.selectedIndex = data.steps.length - 1;
  steps.addEventListener("change", showStep);
  problems.addEventListener("change", showProblem);
  document.getElementById("pick").hidden = false;
  showStep();
}

const data = JSON.parse(document.getElementById("data").textContent);
document.querySelectorAll("table.sortable").forEach(makeSortable);
if (data.steps.length) browse(data);
