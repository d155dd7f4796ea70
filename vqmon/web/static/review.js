// The keys of a blind look. Without it the buttons do the same.
"use strict";
(() => {
  const form = document.getElementById("blind");
  if (!form) return;
  const both = document.getElementById("both");
  const flip = document.getElementById("flip");
  const pictures = [...both.querySelectorAll("img")];
  const keys = { ArrowLeft: "choose-left", " ": "choose-tie", ArrowRight: "choose-right" };
  let turn = 0;

  // A choice before both pictures are seen would be a guess.
  const seen = () => pictures.every((picture) => picture.complete);
  function over() {
    const on = both.className.includes("beside");
    both.className = on ? "frames over" : "frames beside";
    flip.setAttribute("aria-pressed", String(on));
  }
  flip.hidden = false;
  // Beside each other they would be too small to judge on a phone.
  if (matchMedia("(max-width: 46rem)").matches) over();
  flip.addEventListener("click", over);
  // The space key on a focused button would press it twice.
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent || !seen()) return void event.preventDefault();
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => delete form.dataset.sent);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || form.dataset.sent || document.querySelector("dialog[open]")) return;
    if (event.target.closest("a, input, #flip, .foot") && event.key === " ") return;
    if (event.key === "Backspace" && document.getElementById("back")) document.getElementById("back").click();
    else if (event.key === "f") over();
    else if (event.key === "Tab" || !(event.key in keys)) return;
    else document.getElementById(keys[event.key]).click();
    event.preventDefault();
  });
  // One over the other: a press or the pointer over it shows the other one.
  const swap = () => both.classList.contains("over") && both.classList.toggle("other", (turn = 1 - turn) === 1);
  both.addEventListener("click", swap);
})();
