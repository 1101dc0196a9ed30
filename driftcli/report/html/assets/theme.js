"use strict";
// Before the first paint: the theme that was chosen, if any, so that nothing flashes.
document.documentElement.classList.add("js");
try {
  const chosen = localStorage.getItem("driftcli-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* a page from disk may have no storage */ }
