"use strict";
// From a number to the text: depth, prompt, round, chain. All text of the run is set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("samples").textContent), drill = document.getElementById("drill");
  if (!drill) return;
  const part = (name) => document.getElementById(`drill-${name}`);
  const { percent, share, number } = charts.FORMS;
  const said = (value, write = percent) => (value === null ? "–" : write(value));
  const chosen = { depth: Math.max(0, data.lost.length - 1), reply: 0, round: 0 };

  function make(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const visible = (text) => text.replaceAll("\n", "↵\n");
  const foreign = (text) => make("bdi", {}, text);

  function depths() {
    part("depths").replaceChildren(...data.lost.map((_, depth) => {
      const button = make("button", { type: "button", "aria-pressed": String(depth === chosen.depth) }, String(depth + 1));
      button.addEventListener("click", () => { chosen.depth = depth; depths(); prompts(true); part("depths").children[depth].focus(); });
      return button;
    }));
    part("depth-said").textContent = `At depth ${chosen.depth + 1}: share of right guesses that the control has and the chain has not, in percentage points, by reply.`;
  }

  function ranked() {
    return data.lost.length ? data.lost[chosen.depth] : data.replies.map((_, place) => [place, null]);
  }

  function prompts(anew) {
    const rows = ranked();
    if (anew) { chosen.reply = rows[0][0]; chosen.round = worst(); }
    const most = Math.max(0.01, ...rows.map(([, loss]) => Math.abs(loss ?? 0)));
    const heads = ["prompt", ...(data.lost.length ? ["lost"] : []), "tokens", "rounds", "tokens a round"];
    const body = rows.map(([place, loss]) => {
      const { id, turn, category, counts: [, length, rounds, accepted] } = data.replies[place];
      const button = make("button", { type: "button", "aria-pressed": String(place === chosen.reply), "data-reply": place }, foreign(id));
      if (turn) button.append(` turn ${turn}`);
      const name = make("th", { scope: "row" }, button);
      if (category) name.append(make("small", {}, foreign(category)));
      const cells = [length, rounds, number(1 + accepted / rounds)].map((value) => make("td", {}, String(value)));
      if (loss === null) return make("tr", {}, name, ...cells);
      const meter = make("span", { class: loss < 0 ? "meter gained" : "meter", "aria-hidden": "true" });
      meter.style.setProperty("--part", `${(100 * Math.abs(loss)) / most}%`);
      return make("tr", {}, name, make("td", { class: "loss" }, meter, `${(100 * loss).toFixed(0)} pp`), ...cells);
    });
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...body));
    const top = part("prompts").scrollTop;
    part("prompts").replaceChildren(table);
    part("prompts").scrollTop = anew ? 0 : top;
    show();
  }

  part("prompts").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    chosen.reply = Number(button.dataset.reply);
    chosen.round = worst();
    prompts(false);
    part("prompts").querySelector('[aria-pressed="true"]').focus();
  });

  // The round of the reply whose chain loses most guesses that its control has right.
  function worst() {
    const lost = data.replies[chosen.reply].chains.map((chain) => chain.filter(([, own, control]) => control && control[1] && !own[1]).length);
    return Math.max(0, lost.indexOf(Math.max(...lost)));
  }

  function show() { reply(); chain(); }

  function reply() {
    const { prompt, pieces, rounds, counts } = data.replies[chosen.reply];
    const asked = make("details", { class: "prompt" }, make("summary", {}, `Prompt, ${counts[0]} tokens`),
      make("div", { class: "text", role: "region", tabindex: "0", "aria-label": "The prompt" }, ...prompt.map(([kind, text]) => make("span", { class: kind ? "content" : "template" }, foreign(visible(text))))));
    const key = make("p", { class: "key small" },
      make("span", { class: "kept" }, "kept draft"), " ", make("span", { class: "own" }, "the target's own token"), " ", make("s", { class: "missed" }, "missed draft"),
      " A round is a box: choose one by click or with the arrow keys.");
    const group = make("div", { class: "text rounds", role: "radiogroup", "aria-label": "Rounds of the reply" });
    if (rounds.length && rounds[0][0] >= 0) group.append(...plainly(pieces.slice(0, rounds[0][0] + 1)));
    rounds.forEach(([at, accepted, drafted], place) => {
      const next = place + 1 < rounds.length ? rounds[place + 1][0] : at + accepted + 1;
      const box = make("span", { class: "round", role: "radio", "aria-checked": String(place === chosen.round), tabindex: place === chosen.round ? "0" : "-1", "data-round": place },
        make("span", { class: "unseen" }, `round ${place + 1}, ${accepted} of ${drafted.length} kept: `),
        ...pieces.slice(at + 1, at + 1 + accepted).map((text) => make("span", { class: "kept" }, foreign(visible(text)))),
        ...drafted.slice(accepted, accepted + 1).map((text) => make("s", { class: "missed" }, foreign(visible(text)))),
        ...pieces.slice(at + 1 + accepted, next + 1).map((text) => make("span", { class: "own" }, foreign(visible(text)))));
      group.append(box);
    });
    const last = rounds.length ? rounds[rounds.length - 1] : null;
    if (last) group.append(...plainly(pieces.slice(last[0] + last[1] + 2)));
    part("reply").replaceChildren(asked, key, group);
    group.addEventListener("click", (event) => choose(event.target.closest(".round")));
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const boxes = [...group.querySelectorAll(".round")];
      if (step) { event.preventDefault(); choose(boxes[(chosen.round + step + boxes.length) % boxes.length]); }
      if (event.key === " " || event.key === "Enter") { event.preventDefault(); choose(event.target.closest(".round")); }
    });
    function choose(box) {
      if (!box) return;
      chosen.round = Number(box.dataset.round);
      for (const one of group.querySelectorAll(".round")) { one.setAttribute("aria-checked", String(one === box)); one.tabIndex = one === box ? 0 : -1; }
      box.focus({ preventScroll: true });
      chain();
    }
  }

  const plainly = (pieces) => pieces.map((text) => make("span", { class: "beside" }, foreign(visible(text))));

  function guess(query) {
    if (!query) return [make("td", {}, "–"), make("td", {}, "–")];
    const [text, right, , probability] = query;
    if (text === null) return [make("td", {}, "no proposal"), make("td", {}, "–")];
    const mark = right === null ? "" : right ? "✓ " : "✗ ";
    const cell = make("td", { class: right === null ? "" : right ? "right" : "wrong" }, make("span", { "aria-hidden": "true" }, mark), make("span", { class: "unseen" }, right === null ? "" : right ? "right: " : "wrong: "), make("code", {}, foreign(visible(text))));
    return [cell, make("td", {}, said(probability))];
  }

  function chain() {
    const { rounds, chains, counts } = data.replies[chosen.reply], steps = chains[chosen.round];
    const controlled = steps.some(([, , control]) => control);
    const attends = steps.some(([, own]) => own[6] !== null);
    const heads = ["depth", "wanted", "target's probability", "chain drafted", "probability", ...(controlled ? ["control drafted", "probability"] : []), "state RMS", ...(controlled ? ["control's RMS", "cosine"] : []), "attention entropy"];
    const body = steps.map(([wanted, own, control], place) => make("tr", {},
      make("th", { scope: "row" }, String(place + 1)),
      make("td", {}, wanted === null ? "–" : make("code", {}, foreign(visible(wanted)))),
      make("td", {}, said(own[2])), ...guess(own), ...(controlled ? guess(control) : []),
      make("td", {}, said(own[4], number)), ...(controlled ? [make("td", {}, said(control && control[4], number)), make("td", {}, said(own[5], number))] : []),
      make("td", {}, said(own[6], number))));
    const copied = "what a lookup from there proposes, beside what one right before each token does";
    const drafted = `the chain on the target's tokens and its own state, ${controlled ? "beside the control on the same tokens and the target's state" : "which for this drafter is all there is"}`;
    const about = make("p", { class: "small" }, `Round ${chosen.round + 1} of ${rounds.length}, from position ${counts[0] + rounds[chosen.round][0]}: ${data.copies ? copied : drafted}.`);
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...body));
    const plot = make("div", { class: "plot", role: "img", "aria-label": "Attention by region of the chain and its control; the numbers stand in the table below it" });
    const shown = [about, make("div", { class: "wide", role: "region", tabindex: "0", "aria-label": "The chain by depth" }, table)];
    part("chain").replaceChildren(...shown, ...(attends ? [legend(), plot, numbers(steps, controlled)] : []));
    const rows = attends ? attention(steps) : [];
    if (rows.length) charts.put(plot, charts.bars(rows, regions(), Math.floor(plot.clientWidth) || 320));
  }

  const regions = () => data.shares.filter((name) => name !== "recent");

  function legend() {
    return make("ul", { class: "legend regions" }, ...regions().map((name, place) => make("li", {}, make("span", { class: `block region-${place}`, "aria-hidden": "true" }), name)));
  }

  function attention(steps) {
    return steps.flatMap(([, own, control], place) => [["chain", own], ["control", control]].filter(([, query]) => query).flatMap(([feed, query]) => {
      let from = 0;
      return regions().map((name, region) => {
        const value = query[7 + region] ?? 0;
        const row = { depth: place + 1, feed, region, from, to: from + value, said: `${feed}, depth ${place + 1}\n${name}: ${share(value)}` };
        from += value;
        return row;
      });
    }));
  }

  function numbers(steps, controlled) {
    const heads = ["depth", ...data.shares.flatMap((name) => (controlled ? [`${name}, chain`, `${name}, control`] : [name]))];
    const body = steps.map(([, own, control], place) => make("tr", {}, make("th", { scope: "row" }, String(place + 1)),
      ...data.shares.flatMap((_, at) => [own, ...(controlled ? [control] : [])].map((query) => make("td", {}, query ? said(query[7 + at], share) : "–")))));
    return make("details", { class: "numbers" }, make("summary", {}, "Numbers of its attention"),
      make("div", { class: "wide", role: "region", tabindex: "0", "aria-label": "Numbers of the chain's attention" },
        make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...body))));
  }

  drill.hidden = false;
  if (data.lost.length) depths();
  prompts(true);
})();
