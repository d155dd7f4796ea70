// What every page does in the browser: live updates, ages, keyboard. Without it all pages can still be read.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- ages: the server writes them once, they go on by themselves
  // by the clock of the server, whatever the clock of this machine says
  const clockOffset = Date.parse(document.body.dataset.now) - Date.now();
  function age(seconds) {
    if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86400)} d`;
  }
  function writeAges() {
    const now = Date.now() + clockOffset;
    for (const item of $$("time[data-ago]")) {
      const text = age((now - Date.parse(item.dateTime)) / 1000);
      if (item.textContent !== text) item.textContent = text;
    }
  }
  setInterval(writeAges, 1000);

  // ---- live: one stream of events; a table asks again only when the last answer is in and shown
  let source = null;
  let after = document.body.dataset.liveAfter;
  let askedAt = 0;
  let shownAt = 0;
  let cost = 0;
  let pending = 0;

  function showLink(state, text) {
    const item = $("#link-state");
    item.hidden = false;
    item.dataset.state = state;
    item.lastElementChild.textContent = text;
  }
  function refresh() {
    // A big table costs more to fetch and draw: give it at least four times as long to be read.
    const wait = shownAt + Math.max(1000, 4 * cost) - performance.now();
    clearTimeout(pending);
    pending = setTimeout(() => {
      askedAt = performance.now();
      htmx.trigger(document.body, "live-outcomes");
    }, Math.max(0, wait));
  }
  function announce(alerts) {
    const words = alerts.map((alert) => `${alert.state === "open" ? "Alert" : "Resolved"}: ${alert.summary}`);
    $("#announce").textContent = words.slice(0, 3).join(". ") + (words.length > 3 ? ` and ${words.length - 3} more` : "");
  }
  function on(name, action) {
    source.addEventListener(name, (event) => {
      after = event.lastEventId;
      action(JSON.parse(event.data));
    });
  }
  function connect() {
    if (source || document.hidden) return;
    const query = new URLSearchParams({ after });
    if (document.body.dataset.liveStream) query.set("stream", document.body.dataset.liveStream);
    source = new EventSource(`/live?${query}`);
    source.onopen = () => showLink("live", "Live");
    source.onerror = () => {
      showLink("lost", "Reconnecting");
      // Browsers give up for good after an answer that is an error.
      if (source.readyState === EventSource.CLOSED) {
        disconnect();
        setTimeout(connect, 10000);
      }
    };
    on("outcomes", (points) => {
      document.dispatchEvent(new CustomEvent("vqmon:points", { detail: points }));
      refresh();
    });
    on("alerts", (alerts) => {
      announce(alerts);
      document.dispatchEvent(new CustomEvent("vqmon:alerts", { detail: alerts }));
      htmx.trigger(document.body, "live-alerts");
    });
    on("behind", () => {
      document.dispatchEvent(new CustomEvent("vqmon:behind"));
      htmx.trigger(document.body, "live-alerts");
      refresh();
    });
  }
  function disconnect() {
    if (source) source.close();
    source = null;
  }
  // A browser has few connections to one server: hidden tabs give theirs back.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  // ---- what a swap must not undo: open details, scrolled tables
  const kept = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    kept.set("open", $$("details[id]", event.detail.target).filter((item) => item.open).map((item) => item.id));
    kept.set("scroll", $$(".scroll", event.detail.target).map((item) => [item.scrollLeft, item.scrollTop]));
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of kept.get("open") || []) if ($(`#${id}`)) $(`#${id}`).open = true;
    (kept.get("scroll") || []).forEach(([left, top], index) => {
      const item = $$(".block .scroll")[index];
      if (item && (left || top)) item.scrollTo(left, top);
    });
    shownAt = performance.now();
    if (askedAt) cost = shownAt - askedAt;
    askedAt = 0;
    writeAges();
  });

  // ---- keyboard
  const typing = (target) => target.closest("input, select, textarea, dialog[open], [contenteditable]");
  function step(by) {
    const neighbour = $(by > 0 ? "#next" : "#previous");
    if (neighbour) return neighbour.click();
    const rows = $$(".row-link");
    if (!rows.length) return undefined;
    const at = rows.indexOf(document.activeElement);
    const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))];
    row.focus();
    return row.scrollIntoView({ block: "nearest" });
  }
  const go = { f: "/", a: "/alerts", e: "/experiments", c: "/compare" };
  let afterG = false;
  const keys = {
    j: () => step(1),
    k: () => step(-1),
    ArrowRight: () => $("#next") && $("#next").click(),
    ArrowLeft: () => $("#previous") && $("#previous").click(),
    "/": () => $("#q") && $("#q").focus(),
    "?": () => $("#keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
    if (afterG && go[event.key]) return void location.assign(go[event.key]);
    afterG = event.key === "g";
    const isArrow = event.key.startsWith("Arrow");
    if (!keys[event.key] || (isArrow && event.target.closest(".chart, .scroll, summary"))) return;
    if (!isArrow) event.preventDefault();
    keys[event.key]();
  });
  $("#show-keys").hidden = false;
  $("#show-keys").addEventListener("click", () => $("#keys").showModal());
})();
