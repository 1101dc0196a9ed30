"use strict";
// What makes the page alive: plots at the width that there is, the theme, the choice of a region, and folded parts opened where a link leads.
(() => {
  const values = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawAll = () => places.forEach((place) => charts.draw(place, values[place.dataset.chart]));
  drawAll();
  let waiting = 0;
  new ResizeObserver(() => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(drawAll); }).observe(document.querySelector("main"));

  for (const group of document.querySelectorAll("[data-choices]")) {
    const place = places.find((one) => one.dataset.chart === group.dataset.choices);
    group.hidden = false;
    group.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      for (const one of group.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one === button));
      place.dataset.choice = button.dataset.choice;
      drawAll();
    });
  }

  const root = document.documentElement, themes = document.querySelector(".switch");
  function mark() {
    for (const one of themes.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one.dataset.themeChoice === (root.dataset.theme || "auto")));
  }
  themes.hidden = false;
  themes.addEventListener("click", (event) => {
    const choice = event.target.dataset.themeChoice;
    if (!choice) return;
    if (choice === "auto") delete root.dataset.theme; else root.dataset.theme = choice;
    try { localStorage.setItem("driftcli-theme", choice); } catch { /* the choice then holds until the page is left */ }
    mark();
  });
  mark();

  function unfold() {
    const place = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    for (let one = place; one; one = one.parentElement) if (one instanceof HTMLDetailsElement) one.open = true;
    place.scrollIntoView();
  }
  addEventListener("hashchange", unfold);
  if (location.hash) unfold();

  let folded = [];
  addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; folded.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
})();
