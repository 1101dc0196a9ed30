"use strict";
// Terms explained where they stand: on hover and on focus, gone with Escape; without a script the link leads to the glossary.
const tips = (() => {
  const tip = document.getElementById("tip");
  let owner = null, timer = 0;

  function hide() {
    clearTimeout(timer);
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  }

  function show(link) {
    const entry = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    const meaning = entry && entry.querySelector("dd");
    if (!meaning) return;
    hide();
    owner = link;
    tip.textContent = meaning.textContent;
    tip.hidden = false;
    link.setAttribute("aria-describedby", "tip");
    const at = link.getClientRects()[0] || link.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - own.width - 8));
    const below = at.bottom + own.height + 12 < window.innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - own.height - 6)}px`;
  }

  const link = (event) => event.target instanceof Element ? event.target.closest("a.term") : null;
  document.addEventListener("pointerover", (event) => {
    if (tip.contains(event.target)) return clearTimeout(timer);
    const over = link(event);
    clearTimeout(timer);
    if (over && over !== owner) timer = setTimeout(show, 150, over);
    else if (!over && owner && owner !== document.activeElement) timer = setTimeout(hide, 250);
  });
  document.addEventListener("focusin", (event) => { const on = link(event); if (on && on.matches(":focus-visible")) show(on); });
  document.addEventListener("focusout", (event) => { if (link(event) === owner) hide(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", hide, { passive: true });
  return { hide };
})();
