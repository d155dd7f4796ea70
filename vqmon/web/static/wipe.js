// Two pictures of the same moment, one over the other. Without it they stand side by side.
"use strict";
(() => {
  for (const box of document.querySelectorAll(".wipe")) {
    const frames = [...box.querySelectorAll(".frames")];
    const slider = box.querySelector(".slider");
    const range = slider.querySelector("input");
    const groups = { mode: [...box.querySelectorAll("[data-mode]")], shot: [...box.querySelectorAll("[data-shot]")] };

    function press(buttons, chosen) {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
    }
    function lay(mode) {
      for (const frame of frames) frame.className = `frames ${mode === "wipe" ? "wipe-on" : mode}`;
      slider.hidden = mode !== "wipe";
    }
    function move() {
      for (const frame of frames) frame.style.setProperty("--edge", `${range.value}%`);
    }
    for (const button of groups.mode) button.addEventListener("click", () => (press(groups.mode, button), lay(button.dataset.mode)));
    for (const button of groups.shot)
      button.addEventListener("click", () => {
        press(groups.shot, button);
        for (const frame of frames) frame.hidden = frame.dataset.number !== button.dataset.shot;
      });
    range.addEventListener("input", move);
    // The pictures themselves can be dragged across as well.
    for (const frame of frames)
      frame.addEventListener("pointermove", (event) => {
        if (!frame.classList.contains("wipe-on") || (event.pointerType !== "mouse" && !event.buttons)) return;
        const place = frame.getBoundingClientRect();
        range.value = String(Math.round((100 * (event.clientX - place.left)) / place.width));
        move();
      });
    for (const part of box.querySelectorAll(".modes, .moments")) part.hidden = false;
    for (const button of groups.mode) if (button.dataset.mode === "wipe") button.click();
    move();
  }
})();
