"use strict";

// Fills the table of completions and shows the tokens of the one chosen. Every text from a run goes in as textContent.

addEventListener("error", (event) => {
  const banner = document.getElementById("error");
  banner.textContent = `The script of this page failed: ${event.message}`;
  banner.hidden = false;
});

const MARKS = { correct: "✓", wrong: "✗" };
const place = (id) => document.getElementById(id);

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

function verdict(one) {
  const kind = one.status in MARKS ? one.status : "other";
  return element("span", { className: kind, textContent: `${MARKS[one.status] ?? "○"} ${one.status.replace("_", " ")}` });
}

function methodName(data, index) {
  const name = element("span", { className: "run", textContent: data.methods[index] });
  name.style.setProperty("--c", `var(--run-${index % Number(place("table").dataset.colours)})`);
  return name;
}

// Columns as [heading, value to sort by, cell]; headings may be nodes.
function columns(data) {
  const figures = (value, digits, signed) => element("td", { className: "number", textContent: number(value, digits, signed) });
  const found = [
    ["problem", (one) => one.group, (one) => {
      const button = element("button", { type: "button", textContent: data.groups[one.group].name, title: data.groups[one.group].name });
      return element("td", { className: "problem" }, [button]);
    }],
    ["no.", (one) => one.index, (one) => figures(one.index, 0)],
    ["verdict", (one) => one.status, (one) => element("td", { className: "verdict" }, [verdict(one)])],
    ["c(o)", (one) => one.confidence ?? -1, (one) => figures(one.confidence, 3)],
  ];
  data.methods.forEach((_, m) => {
    found.push([methodName(data, m), (one) => one.advantages[m], (one) => figures(one.advantages[m], 3, true)]);
  });
  for (let m = 1; m < data.methods.length; m += 1) {
    const between = (one) => one.advantages[m] - one.advantages[0];
    const heading = element("span", { textContent: data.methods.length > 2 ? `${data.methods[m]} − ${data.methods[0]}` : "difference" });
    found.push([heading, (one) => Math.abs(between(one)), (one) => figures(between(one), 3, true)]);
  }
  found.push(["completion", (one) => one.text, (one) => element("td", { className: "start", textContent: one.text.slice(0, 80) })]);
  return found;
}

function fillTable(data, choose) {
  const shown = columns(data);
  const body = element("tbody");
  const headings = shown.map(([heading]) => element("th", {}, [element("button", { type: "button" }, [heading])]));
  let order = { by: null, down: true };
  const fill = () => {
    const group = place("pick-group").selectedIndex - 1;
    const rows = data.completions.filter((one) => group < 0 || one.group === group);
    if (order.by !== null) {
      const value = shown[order.by][1];
      const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
      rows.sort((a, b) => compare(value(a), value(b)) * (order.down ? -1 : 1));
    }
    body.replaceChildren(...rows.map((one) => {
      const row = element("tr", {}, shown.map(([, , cell]) => cell(one)));
      row.addEventListener("click", () => {
        body.querySelector('[aria-selected="true"]')?.removeAttribute("aria-selected");
        row.setAttribute("aria-selected", "true");
        choose(one);
      });
      return row;
    }));
    body.rows[0].click();
  };
  headings.forEach((heading, column) => {
    if (column > 2 && column < shown.length - 1 || column === 1) heading.className = "number";
    heading.addEventListener("click", () => {
      const down = order.by === column ? !order.down : true;
      order = { by: column, down };
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      fill();
    });
  });
  const table = element("table", {}, [element("thead", {}, [element("tr", {}, headings)]), body]);
  place("table").replaceChildren(table);
  const options = data.groups.map(({ name }) => element("option", { textContent: name }));
  place("pick-group").replaceChildren(element("option", { textContent: `all ${data.groups.length}` }), ...options);
  place("pick-group").addEventListener("change", fill);
  place("pick").hidden = false;
  fill();
}

const shade = (colour, share) => `color-mix(in srgb, var(${colour}) ${(100 * share).toFixed(1)}%, transparent)`;
const byWeight = (weight, largest) => (largest ? shade(weight < 0 ? "--wrong" : "--right", (0.7 * Math.abs(weight)) / largest) : "transparent");
const byProbability = (probability) => shade("--run-0", 0.7 * (1 - probability));

function describe(one, t) {
  const { ids, texts, probabilities, entropies, low } = one.tokens;
  const text = texts === null ? "" : ` ${JSON.stringify(texts[t].replace("\u0000", ""))}`;
  return `token ${t + 1} of ${ids.length}${text}, id ${ids[t]}, probability ${probabilities[t]}, entropy ${entropies[t]} nats${low[t] ? ", among the least likely 20 %" : ""}`;
}

function tokenSpans(one, background) {
  const { ids, texts, low } = one.tokens;
  return ids.map((id, t) => {
    let [text, kind] = texts === null ? [`${id} `, "id"] : [texts[t], ""];
    if (text.startsWith("\u0000")) [text, kind] = [text.slice(1), "special"];
    else if (text === "") [text, kind] = ["·", "part"];
    const span = element("span", { className: `token ${kind} ${low[t] ? "low" : ""}`, textContent: text, title: describe(one, t) });
    span.style.background = background(t);
    span.addEventListener("click", () => {
      document.querySelectorAll(".token.chosen").forEach((other) => other.classList.remove("chosen"));
      span.classList.add("chosen");
      place("readout").textContent = describe(one, t);
    });
    return span;
  });
}

function panel(heading, facts, content) {
  return element("div", { className: "panel" }, [
    element("h3", {}, heading),
    element("p", { className: "note", textContent: facts }),
    element("div", { className: "tokens" }, content),
  ]);
}

function legend(by, largest) {
  const swatch = (text, background) => {
    const made = element("span", { className: "swatch", textContent: text });
    made.style.background = background;
    return made;
  };
  return by === "weight"
    ? [swatch(number(-largest, 2, true), byWeight(-largest, largest)), swatch("0", "transparent"), swatch(number(largest, 2, true), byWeight(largest, largest)), "per token; the scale is that of this group"]
    : [swatch("probability 1", byProbability(1)), swatch("0.5", byProbability(0.5)), swatch("0", byProbability(0))];
}

function showChosen(data, one) {
  const group = data.groups[one.group];
  const facts = [element("div", { className: "text", textContent: group.prompt })];
  if (group.answer !== null) facts.push(element("div", { className: "canonical", textContent: `expected ${group.answer}` }));
  const line = [verdict(one), ` completion ${one.index}`];
  if (one.detail) line.push(`, ${one.detail}`);
  if (one.cut) line.push(", cut at the length limit");
  place("chosen").replaceChildren(element("div", { id: "problem" }, facts), element("p", { className: "note" }, line));
  place("readout").textContent = one.tokens ? "Click a token for its probability." : "";
  place("colour").hidden = place("legend").hidden = one.tokens === null;

  const by = place("colour").elements.by.value;
  const members = data.completions.filter((other) => other.group === one.group);
  const largest = Math.max(0, ...members.flatMap(({ tokens }) => (tokens ? tokens.weights.flat().map(Math.abs) : [])));
  const spread = (weights) => (Array.isArray(weights)
    ? `weights of its tokens ${number(Math.min(...weights), 3, true)} to ${number(Math.max(...weights), 3, true)}`
    : `weight of each token ${number(weights, 3, true)}`);
  const weights = (m) => (one.tokens ? `, ${spread(one.tokens.weights[m])}` : "");
  const advantages = data.methods.map((_, m) => `advantage ${number(one.advantages[m], 3, true)}${weights(m)}`);
  const weightAt = (m, t) => (Array.isArray(one.tokens.weights[m]) ? one.tokens.weights[m][t] : one.tokens.weights[m]);
  let panels;
  if (one.tokens === null) {
    panels = [panel(["completion"], data.methods.map((name, m) => `${name}: ${advantages[m]}`).join("; "), [one.text])];
  } else if (by === "weight") {
    panels = data.methods.map((_, m) => panel([methodName(data, m)], advantages[m], tokenSpans(one, (t) => byWeight(weightAt(m, t), largest))));
  } else {
    panels = [panel(["probability when sampled"], `c(o) ${number(one.confidence, 3)}`, tokenSpans(one, (t) => byProbability(one.tokens.probabilities[t])))];
  }
  place("legend").replaceChildren(...legend(by, largest));
  place("panels").replaceChildren(...panels);
}

const data = JSON.parse(place("data").textContent);
let chosen = null;
fillTable(data, (one) => {
  chosen = one;
  showChosen(data, one);
});
place("colour").addEventListener("change", () => showChosen(data, chosen));
document.documentElement.dataset.ready = "yes";
