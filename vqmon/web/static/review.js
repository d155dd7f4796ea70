// Keyboard shortcuts of the blind review. Without JavaScript the buttons do the same.
"use strict";
(() => {
  const form = document.getElementById("blind");
  if (!form) return;
  const both = document.getElementById("both");
  const flip = document.getElementById("flip");
  const pictures = [...both.querySelectorAll("img")];
  const keys = { ArrowLeft: "choose-left", " ": "choose-tie", ArrowRight: "choose-right" };
  let turn = 0;

  // Before both pictures are loaded, a choice would be a guess.
  const areLoaded = () => pictures.every((picture) => picture.complete);
  function toggleOverlay() {
    const on = both.className.includes("beside");
    both.className = on ? "frames over" : "frames beside";
    flip.setAttribute("aria-pressed", String(on));
  }
  flip.hidden = false;
  // Side by side they are too small to judge on a phone.
  if (matchMedia("(max-width: 46rem)").matches) toggleOverlay();
  flip.addEventListener("click", toggleOverlay);
  // The space key on a focused button would submit twice.
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent || !areLoaded()) return void event.preventDefault();
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => delete form.dataset.sent);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || form.dataset.sent || document.querySelector("dialog[open]")) return;
    if (event.target.closest("a, input, #flip, .foot") && event.key === " ") return;
    if (event.key === "Backspace" && document.getElementById("back")) document.getElementById("back").click();
    else if (event.key === "f") toggleOverlay();
    else if (event.key === "Tab" || !(event.key in keys)) return;
    else document.getElementById(keys[event.key]).click();
    event.preventDefault();
  });
  // In the overlay, a click shows the other picture.
  const swap = () => both.classList.contains("over") && both.classList.toggle("other", (turn = 1 - turn) === 1);
  both.addEventListener("click", swap);
})();
