// Compares two pictures of the same moment: wipe, side by side or difference. Without JavaScript they are side by side.
"use strict";
(() => {
  function press(buttons, chosen) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
  }
  function enable(box) {
    const frames = [...box.querySelectorAll(".frames")];
    const modes = [...box.querySelectorAll("[data-mode]")];
    const moments = [...box.querySelectorAll("[data-frame]")];
    const slider = box.querySelector(".slider");
    const range = slider.querySelector("input");

    function setMode(mode) {
      for (const frame of frames) frame.className = `frames ${mode === "wipe" ? "wipe-on" : mode}`;
      slider.hidden = mode !== "wipe";
    }
    function moveEdge() {
      for (const frame of frames) frame.style.setProperty("--edge", `${range.value}%`);
    }
    for (const button of modes) {
      button.addEventListener("click", () => {
        press(modes, button);
        setMode(button.dataset.mode);
      });
    }
    for (const button of moments) {
      button.addEventListener("click", () => {
        press(moments, button);
        for (const frame of frames) frame.hidden = frame.dataset.number !== button.dataset.frame;
      });
    }
    range.addEventListener("input", moveEdge);
    // The edge follows the pointer over the pictures.
    for (const frame of frames) {
      frame.addEventListener("pointermove", (event) => {
        if (!frame.classList.contains("wipe-on") || (event.pointerType !== "mouse" && !event.buttons)) return;
        const bounds = frame.getBoundingClientRect();
        range.value = String(Math.round((100 * (event.clientX - bounds.left)) / bounds.width));
        moveEdge();
      });
    }
    for (const part of box.querySelectorAll(".modes, .moments")) part.hidden = false;
    setMode("wipe");
    moveEdge();
  }
  function enableAll() {
    for (const box of document.querySelectorAll(".wipe:not([data-ready])")) {
      box.dataset.ready = "yes";
      enable(box);
    }
  }
  // A live update replaces the markup.
  document.addEventListener("htmx:afterSettle", enableAll);
  enableAll();
})();
