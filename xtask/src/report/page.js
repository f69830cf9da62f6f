"use strict";
// Filters by outcome and by name, and opens the case that a link leads to.
const find = document.getElementById("find");
const counts = [...document.querySelectorAll(".count")];

function filter() {
  const text = find.value.trim().toLowerCase();
  const wanted = counts.filter((button) => button.getAttribute("aria-pressed") === "true").map((button) => button.dataset.outcome);
  const fits = new Set();
  for (const row of document.querySelectorAll(".grid tbody tr")) {
    const outcomes = [...row.querySelectorAll("td[data-outcome]")].map((cell) => cell.dataset.outcome);
    const shown = row.dataset.case.toLowerCase().includes(text)
      && (wanted.length === 0 || outcomes.some((outcome) => wanted.includes(outcome)));
    row.hidden = !shown;
    if (shown) fits.add(row.dataset.case);
  }
  for (const other of document.querySelectorAll(".bars [data-case], .case")) {
    other.hidden = !fits.has(other.dataset.case);
  }
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.hidden = false;
    target.scrollIntoView();
  }
}

find.addEventListener("input", filter);
for (const button of counts) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    filter();
  });
}
addEventListener("hashchange", openTarget);
openTarget();
