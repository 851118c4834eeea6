"use strict";
// The gallery: filters, a sheet of pictures at a time, one picture in full. Text is set as text, never as markup.
(() => {
  const [ID, LABEL, TYPE, PICTURE, MASK, HEAT, VERDICT, SCORE, PROBABILITY, UNSURE, CHOSEN, DIFFICULTY, DIFFER, ANSWERS] =
    Array.from({ length: 14 }, (_, index) => index);
  const [A_PRESUMED, A_VERDICT, A_QUESTION, A_TEXT, A_MATCH, A_SCORE, A_FINISHED] = [0, 1, 2, 3, 4, 5, 6];
  const PER_SHEET = 60;
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);

  function make(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  function drawn(name, attributes) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }
  const place = (key) => (key === null ? null : data.places[key] ?? at(key).textContent);
  const text = (number) => (number < 0 ? "" : data.strings[number]);
  const failed = (row) => row.length <= 7;
  const stated = (row) => row[PROBABILITY] ?? row[SCORE];
  const outcome = (row) =>
    failed(row) ? "failed" : row[VERDICT] === "unparsed" ? "undecided" : row[VERDICT] === row[LABEL] ? "right" : "wrong";
  const MARKS = { right: "✓", wrong: "✕", undecided: "?", failed: "!" };

  // ---- filters: every group is a set of named values a picture has
  const GROUPS = [
    ["outcome", "Outcome", (row) => [outcome(row)], ["right", "wrong", "undecided", "failed"]],
    ["truth", "In truth", (row) => [row[LABEL]], ["real", "fake"]],
    ["type", "Kind of forgery", (row) => (row[TYPE] < 0 ? [] : [text(row[TYPE])]), null],
    ["difficulty", "Difficulty", (row) => (failed(row) || !row[DIFFICULTY] ? [] : [row[DIFFICULTY]]), ["easy", "hard"]],
    ["disagreement", "Disagreement", (row) => (failed(row) ? [] : row[DIFFER].map((one) => data.disagreements[one])), data.disagreements],
    ["certainty", "Certainty", (row) => (failed(row) || row[UNSURE] === null ? [] : [row[UNSURE] ? "not sure" : "sure"]), ["sure", "not sure"]],
  ];
  const state = { run: 0, order: "given", words: "", chosen: {}, from: 0 };
  let rows = [], values = [], shown = [], counts = {};

  function load() {
    rows = data.runs[state.run].rows;
    values = rows.map((row) => GROUPS.map((group) => group[2](row)));
    state.chosen = {};
    buildFilters();
    apply();
  }

  function buildFilters() {
    const holder = at("groups");
    holder.replaceChildren();
    if (data.runs.length > 1) {
      const select = make("select", { id: "run" });
      data.runs.forEach((run, index) => select.append(make("option", { value: index }, `${run.benchmark}: ${run.label}`)));
      select.value = state.run;
      select.addEventListener("change", () => { state.run = Number(select.value); load(); at("run").focus(); });
      holder.append(make("fieldset", {}, make("legend", {}, make("label", { for: "run" }, "Run")), select));
    }
    counts = {};
    GROUPS.forEach(([key, title, , fixed], index) => {
      const present = new Set(values.flatMap((of) => of[index]));
      const names = (fixed ?? [...present].sort()).filter((name) => present.has(name));
      if (names.length === 0 || (names.length < 2 && key !== "disagreement")) return;
      const fieldset = make("fieldset", {}, make("legend", {}, title));
      for (const name of ["all", ...names]) {
        const input = make("input", { type: "radio", name: key, value: name });
        input.checked = name === "all";
        input.addEventListener("change", () => { state.chosen[index] = name === "all" ? undefined : name; apply(); });
        const number = make("span", { class: "num" });
        if (name !== "all") (counts[index] ??= {})[name] = number;
        fieldset.append(make("label", {}, input, make("span", {}, name), number));
      }
      holder.append(fieldset);
    });
  }

  function wordsMatch() {
    const wanted = state.words.trim().toLowerCase();
    if (!wanted) return () => true;
    const hit = data.strings.map((one) => one.toLowerCase().includes(wanted));
    return (row) => row[ID].toLowerCase().includes(wanted) || (!failed(row) && row[ANSWERS].some((one) => hit[one[A_TEXT]]));
  }

  const ORDERS = {
    wrong: (row) => (failed(row) ? 9 : -Math.abs(stated(row) - (row[LABEL] === "fake" ? 1 : 0))),
    high: (row) => (failed(row) ? 9 : -stated(row)),
    low: (row) => (failed(row) ? 9 : stated(row)),
    near: (row) => (failed(row) ? 9 : Math.abs(stated(row) - 0.5)),
  };

  function apply() {
    const matches = wordsMatch();
    const tally = {};
    shown = [];
    rows.forEach((row, number) => {
      if (!matches(row)) return;
      const misses = [];
      GROUPS.forEach((_, index) => {
        const wanted = state.chosen[index];
        if (wanted !== undefined && !values[number][index].includes(wanted)) misses.push(index);
      });
      if (misses.length === 0) shown.push(number);
      // how many there would be, were this group's choice another one
      GROUPS.forEach((_, index) => {
        if (misses.some((one) => one !== index)) return;
        for (const name of values[number][index]) (tally[index] ??= {})[name] = (tally[index]?.[name] ?? 0) + 1;
      });
    });
    for (const [index, spans] of Object.entries(counts))
      for (const [name, span] of Object.entries(spans)) {
        const many = tally[index]?.[name] ?? 0;
        span.textContent = many;
        span.parentNode.classList.toggle("zero", many === 0);
      }
    const order = ORDERS[state.order];
    if (order) shown.sort((a, b) => order(rows[a]) - order(rows[b]) || a - b);
    state.from = 0;
    drawSheet();
  }

  // ---- a sheet of pictures
  const noun = (many) => (many === 1 ? "picture" : "pictures");
  function sentence(row) {
    if (failed(row)) return `${row[LABEL]}, could not be analysed`;
    return row[VERDICT] === "unparsed" ? `${row[LABEL]}, no verdict` : row[VERDICT] === row[LABEL] ? `${row[LABEL]}` : `${row[LABEL]}, called ${row[VERDICT]}`;
  }

  function gauge(row) {
    const picture = drawn("svg", { class: `gauge ${row[LABEL]}`, viewBox: "0 0 100 9", preserveAspectRatio: "none", "aria-hidden": "true" });
    picture.append(drawn("path", { class: "track", d: "M0,7H100" }), drawn("path", { class: "truth", d: row[LABEL] === "fake" ? "M50,7H100" : "M0,7H50" }));
    if (!failed(row)) picture.append(drawn("path", { class: "needle", d: `M${(2 + 96 * stated(row)).toFixed(1)},6 l-2.6,-6 h5.2 z` }));
    return picture;
  }

  function image(key, alt) {
    return key === null ? make("em", {}, "no picture on this disk") : make("img", { src: place(key), alt, loading: "lazy", decoding: "async" });
  }

  function card(number, position) {
    const row = rows[number], result = outcome(row);
    const score = failed(row) ? null : make("span", { class: "hidden" }, `, ${result}, P(fake) ${stated(row).toFixed(2)}`);
    const button = make(
      "button", { type: "button", class: `card ${result}`, tabindex: position === 0 ? 0 : -1, "data-position": state.from + position },
      make("span", { class: "frame" }, image(row[PICTURE], `Picture ${row[ID]}`)),
      gauge(row),
      make("span", { class: "said" }, make("b", { "aria-hidden": "true" }, MARKS[result]), sentence(row), score),
      row[TYPE] < 0 ? null : make("span", { class: "id" }, text(row[TYPE])),
      make("span", { class: "id" }, row[ID]),
    );
    return make("li", {}, button);
  }

  function drawSheet() {
    const until = Math.min(state.from + PER_SHEET, shown.length);
    at("cards").replaceChildren(...shown.slice(state.from, until).map(card));
    at("count").textContent = shown.length === rows.length ? `${rows.length} ${noun(rows.length)}` : `${shown.length} of ${rows.length} ${noun(rows.length)}`;
    at("none").hidden = shown.length > 0;
    at("page").textContent = shown.length > PER_SHEET ? `${state.from + 1} to ${until} of ${shown.length}` : "";
    at("before").disabled = state.from === 0;
    at("after").disabled = until >= shown.length;
    at("before").parentNode.hidden = shown.length <= PER_SHEET;
  }

  function turn(by) {
    state.from = Math.max(0, Math.min(state.from + by * PER_SHEET, Math.floor((shown.length - 1) / PER_SHEET) * PER_SHEET));
    drawSheet();
    at("h-gallery").scrollIntoView({ block: "start" });
    at("cards").querySelector("button")?.focus({ preventScroll: true });
  }

  function focusCard(button) {
    for (const one of at("cards").querySelectorAll("button[tabindex='0']")) one.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
  }

  at("cards").addEventListener("keydown", (event) => {
    const all = [...at("cards").querySelectorAll("button")];
    const here = all.indexOf(document.activeElement);
    if (here < 0) return;
    const across = Math.max(1, all.findIndex((one) => one.offsetTop > all[0].offsetTop));
    const steps = { ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - across, ArrowDown: here + across, Home: 0, End: all.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = steps[event.key];
    if (next >= 0 && next < all.length) focusCard(all[next]);
  });
  at("cards").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(Number(button.dataset.position));
  });

  // ---- one picture in full
  let opened = 0;
  const dialog = at("detail");
  const FIELD = /^\s*(?:Image description|Forgery reasoning|Analysis result|Probability|Forgery type)\s*:/i;

  function answerText(whole) {
    const node = make("p", { class: "a-text" });
    whole.split("\n").forEach((line, index) => {
      if (index) node.append("\n");
      const name = FIELD.exec(line)?.[0];
      if (name) node.append(make("b", {}, name), line.slice(name.length));
      else node.append(line);
    });
    return node;
  }
  const fixed = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
  const PRESUMED = { none: "Free answer", real: "Presumed real", fake: "Presumed fake" };

  function answer(one, index, row) {
    const chosen = index === row[CHOSEN] && row[ANSWERS].length > 1;
    return make(
      "li", { class: chosen ? "chosen" : null },
      make("p", { class: "a-head" }, make("strong", {}, PRESUMED[one[A_PRESUMED]] ?? one[A_PRESUMED]),
        make("span", {}, one[A_VERDICT] === "unparsed" ? "states no verdict" : `says ${one[A_VERDICT]}`),
        one[A_MATCH] === null ? null : make("span", {}, `match score ${fixed(one[A_MATCH])}`),
        one[A_SCORE] === null ? null : make("span", {}, `its own P(fake) ${fixed(one[A_SCORE])}`),
        one[A_FINISHED] ? null : make("span", {}, "cut at the token limit"),
        chosen ? make("strong", {}, "chosen") : null),
      one[A_QUESTION] < 0 ? null : make("p", { class: "q" }, text(one[A_QUESTION])),
      answerText(text(one[A_TEXT])),
    );
  }

  function pictures(row) {
    const all = [[row[PICTURE], "picture", `Picture ${row[ID]}`]];
    row[HEAT].forEach((key, index) => all.push([key, `heat map ${index + 1} of the decision`, `Heat map ${index + 1} laid over picture ${row[ID]}`]));
    if (row[MASK] !== null) all.push([row[MASK], "mask: white where it was edited", `Mask of the edit in picture ${row[ID]}`]);
    return all.map(([key, caption, alt]) => make("figure", {}, image(key, alt), make("figcaption", {}, caption)));
  }

  function facts(row) {
    const found = [["in truth", row[TYPE] < 0 ? row[LABEL] : `${row[LABEL]}, ${text(row[TYPE])}`]];
    if (failed(row)) found.push(["failed", text(row[VERDICT])]);
    else {
      found.push(["verdict", `${row[VERDICT]} (${outcome(row)})`]);
      if (row[PROBABILITY] !== null) found.push(["P(fake), calibrated", fixed(row[PROBABILITY])]);
      found.push([row[PROBABILITY] === null ? "P(fake)" : "score", fixed(row[SCORE])]);
      if (row[DIFFICULTY]) found.push(["difficulty", row[DIFFICULTY]]);
      if (row[UNSURE] !== null) found.push(["certainty", row[UNSURE] ? "not sure" : "sure"]);
      if (row[DIFFER].length) found.push(["disagreement", row[DIFFER].map((one) => data.disagreements[one]).join(", ")]);
    }
    return found.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value)));
  }

  function others(row) {
    const here = data.runs[state.run].benchmark;
    const found = data.runs.flatMap((run, index) => {
      const same = index === state.run || run.benchmark !== here ? null : run.rows.find((one) => one[ID] === row[ID]);
      if (!same) return [];
      const said = failed(same) ? "could not be analysed" : `${same[VERDICT]} (${outcome(same)}), P(fake) ${fixed(stated(same))}`;
      return [make("div", {}, make("dt", {}, run.label), make("dd", {}, said))];
    });
    return found.length ? [make("h3", {}, "Other runs on this picture"), make("dl", { class: "facts" }, ...found)] : [];
  }

  function open(position) {
    opened = position;
    const row = rows[shown[position]];
    at("d-title").textContent = row[ID];
    at("d-place").textContent = `${position + 1} of ${shown.length}`;
    at("d-before").disabled = position === 0;
    at("d-after").disabled = position === shown.length - 1;
    at("d-pictures").replaceChildren(...pictures(row));
    at("d-facts").replaceChildren(...facts(row));
    at("d-answers").replaceChildren(...(failed(row) ? [] : row[ANSWERS].map((one, index) => answer(one, index, row))));
    at("d-others").replaceChildren(...others(row));
    if (!dialog.open) { dialog.showModal(); at("d-close").focus(); }
    dialog.scrollTop = 0;
  }
  function step(by) {
    const next = opened + by;
    if (next >= 0 && next < shown.length) open(next);
  }
  at("d-before").addEventListener("click", () => step(-1));
  at("d-after").addEventListener("click", () => step(1));
  at("d-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (opened < state.from || opened >= state.from + PER_SHEET) {
      state.from = Math.floor(opened / PER_SHEET) * PER_SHEET;
      drawSheet();
    }
    const button = at("cards").querySelector(`button[data-position='${opened}']`);
    if (button) focusCard(button);
  });

  // ---- controls
  function clear() {
    state.chosen = {};
    state.words = at("words").value = "";
    for (const input of at("filters").querySelectorAll("input[value='all']")) input.checked = true;
    apply();
  }
  at("clear").addEventListener("click", clear);
  at("clear2").addEventListener("click", () => { clear(); at("clear").focus(); });
  at("order").addEventListener("change", (event) => { state.order = event.target.value; apply(); });
  at("words").addEventListener("input", (event) => { state.words = event.target.value; apply(); });
  at("before").addEventListener("click", () => turn(-1));
  at("after").addEventListener("click", () => turn(1));
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  // A table is a stop of the Tab key only where it has something to scroll to.
  const stops = () => {
    for (const one of document.querySelectorAll(".scroll")) one.tabIndex = one.scrollWidth > one.clientWidth ? 0 : -1;
  };
  window.addEventListener("resize", stops);
  stops();
  window.addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("#cards img")) one.loading = "eager";
    for (const one of document.querySelectorAll("#provenance details")) one.open = true;
  });
  at("order").value = "given";
  at("words").value = "";
  load();
})();
