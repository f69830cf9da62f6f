"use strict";
// Filters by outcome and by name, opens the case that a link leads to, and copies commands.
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

// A command is copied as it is, on one line.
let copyText = (text) => navigator.clipboard.writeText(text);

for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await copyText(command.querySelector("code").textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed here";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  command.append(button);
}

// A table says that there is more of it only where there is.
function hint() {
  for (const table of document.querySelectorAll(".scroll")) {
    table.previousElementSibling.hidden = table.scrollWidth <= table.clientWidth;
  }
}

addEventListener("resize", hint);
hint();
addEventListener("hashchange", openTarget);
openTarget();
