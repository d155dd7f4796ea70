// Keyboard shortcuts and clips of the blind review. Without JavaScript the buttons and the clips' own controls do the same.
"use strict";
(() => {
  const form = document.getElementById("blind");
  if (!form) return;
  const both = document.getElementById("both");
  const flip = document.getElementById("flip");
  const other = document.getElementById("other");
  const motion = document.getElementById("motion");
  const pause = document.getElementById("pause");
  const pictures = [...both.querySelectorAll("img")];
  const clips = [...both.querySelectorAll("video")];
  const keys = { ArrowLeft: "choose-left", " ": "choose-tie", ArrowRight: "choose-right", f: "flip", x: "other", m: "motion", p: "pause", Backspace: "back" };
  let isMoving = false;
  let isPaused = false;
  let isStarting = false;

  // Before both are loaded, a choice would be a guess; clips move when they are, and have no picture while they are rewound.
  const areLoaded = () => isMoving || pictures.every((picture) => picture.complete);
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  function toggleOverlay() {
    const on = both.classList.contains("beside");
    both.className = on ? "frames over" : "frames beside";
    press(flip, on);
    other.hidden = !on;
  }

  // ---- clips: both begin at the same moment, again and again

  function rewound(clip) {
    return new Promise((resolve) => {
      if (clip.currentTime === 0) return void resolve();
      clip.addEventListener("seeked", resolve, { once: true });
      clip.currentTime = 0;
    });
  }
  async function restart() {
    if (isStarting) return;
    isStarting = true;
    for (const clip of clips) clip.pause();
    await Promise.all(clips.map(rewound));
    // play() is refused when the clip is paused meanwhile
    if (isMoving && !isPaused) await Promise.all(clips.map((clip) => clip.play())).catch(() => {});
    isStarting = false;
  }
  function followClips() {
    if (!isMoving) return;
    const [left, right] = clips;
    if (!isPaused && !isStarting) {
      const end = Math.min(left.duration, right.duration) - 0.02;
      if (left.ended || right.ended || Math.min(left.currentTime, right.currentTime) >= end) restart();
      else if (Math.abs(left.currentTime - right.currentTime) > 0.1) right.currentTime = left.currentTime;
    }
    requestAnimationFrame(followClips);
  }
  function setMotion(on) {
    isMoving = on;
    for (const picture of pictures) picture.hidden = on;
    for (const clip of clips) clip.hidden = !on;
    press(motion, on);
    pause.hidden = !on;
    for (const clip of clips) clip.pause();
    if (!on) return;
    setPaused(false);
    requestAnimationFrame(followClips);
  }
  function setPaused(on) {
    isPaused = on;
    press(pause, on);
    if (on) for (const clip of clips) clip.pause();
    else restart();
  }
  if (clips.length) {
    const canPlay = (clip) => new Promise((resolve, reject) => {
      if (clip.readyState >= 4) return void resolve();
      clip.addEventListener("canplaythrough", resolve, { once: true });
      clip.addEventListener("error", reject, { once: true });
      if (clip.error) reject();
    });
    Promise.all(clips.map(canPlay)).then(() => {
      motion.hidden = false;
      motion.addEventListener("click", () => setMotion(!isMoving));
      pause.addEventListener("click", () => setPaused(!isPaused));
      setMotion(!matchMedia("(prefers-reduced-motion: reduce)").matches);
      // a browser that cannot play them shows the pictures
    }, () => {});
  }

  // ---- controls

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
    if (event.target.closest("a, button, input") && event.key === " ") return;
    const control = document.getElementById(keys[event.key]);
    if (!control || control.hidden) return;
    control.click();
    event.preventDefault();
  });
  // In the overlay, a click shows the other side.
  const swap = () => both.classList.contains("over") && both.classList.toggle("other");
  both.addEventListener("click", swap);
  other.addEventListener("click", swap);
})();
