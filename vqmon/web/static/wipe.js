// Two pictures of the same moment, one over the other. Without it they stand side by side.
"use strict";
(() => {
  function press(buttons, chosen) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
  }
  function arm(box) {
    const frames = [...box.querySelectorAll(".frames")];
    const modes = [...box.querySelectorAll("[data-mode]")];
    const shots = [...box.querySelectorAll("[data-shot]")];
    const slider = box.querySelector(".slider");
    const range = slider.querySelector("input");

    function lay(mode) {
      for (const frame of frames) frame.className = `frames ${mode === "wipe" ? "wipe-on" : mode}`;
      slider.hidden = mode !== "wipe";
    }
    function move() {
      for (const frame of frames) frame.style.setProperty("--edge", `${range.value}%`);
    }
    for (const button of modes) {
      button.addEventListener("click", () => {
        press(modes, button);
        lay(button.dataset.mode);
      });
    }
    for (const button of shots) {
      button.addEventListener("click", () => {
        press(shots, button);
        for (const frame of frames) frame.hidden = frame.dataset.number !== button.dataset.shot;
      });
    }
    range.addEventListener("input", move);
    // The pictures themselves can be swept across as well.
    for (const frame of frames) {
      frame.addEventListener("pointermove", (event) => {
        if (!frame.classList.contains("wipe-on") || (event.pointerType !== "mouse" && !event.buttons)) return;
        const place = frame.getBoundingClientRect();
        range.value = String(Math.round((100 * (event.clientX - place.left)) / place.width));
        move();
      });
    }
    for (const part of box.querySelectorAll(".modes, .moments")) part.hidden = false;
    lay("wipe");
    move();
  }
  function ready() {
    for (const box of document.querySelectorAll(".wipe:not([data-ready])")) {
      box.dataset.ready = "yes";
      arm(box);
    }
  }
  // A live update brings the markup anew.
  document.addEventListener("htmx:afterSettle", ready);
  ready();
})();
