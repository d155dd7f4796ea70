// Live updates, ages and keyboard shortcuts of every page. Without JavaScript all pages can still be read.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  const rootPath = document.body.dataset.rootPath;

  // ---- ages: rendered by the server and updated here, by the clock of the server rather than that of this machine
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

  // ---- live: one event stream; a table reloads only after the previous reload is shown
  let source = null;
  let after = document.body.dataset.liveAfter;
  let requestedAt = 0;
  let shownAt = 0;
  let reloadMilliseconds = 0;
  let timer = 0;

  function showConnection(state, text) {
    const item = $("#link-state");
    item.hidden = false;
    item.dataset.state = state;
    item.lastElementChild.textContent = text;
  }
  function scheduleReload() {
    // A big table takes longer to load and draw: leave at least four times as long to read it.
    const wait = shownAt + Math.max(1000, 4 * reloadMilliseconds) - performance.now();
    clearTimeout(timer);
    timer = setTimeout(() => {
      requestedAt = performance.now();
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
    source = new EventSource(`${rootPath}/live?${query}`);
    source.onopen = () => showConnection("live", "Live");
    source.onerror = () => {
      showConnection("lost", "Reconnecting");
      // Browsers do not reconnect after an error response.
      if (source.readyState === EventSource.CLOSED) {
        disconnect();
        setTimeout(connect, 10000);
      }
    };
    on("outcomes", (points) => {
      document.dispatchEvent(new CustomEvent("vqmon:points", { detail: points }));
      scheduleReload();
    });
    on("alerts", (alerts) => {
      announce(alerts);
      document.dispatchEvent(new CustomEvent("vqmon:alerts", { detail: alerts }));
      htmx.trigger(document.body, "live-alerts");
    });
    on("behind", () => {
      document.dispatchEvent(new CustomEvent("vqmon:behind"));
      htmx.trigger(document.body, "live-alerts");
      scheduleReload();
    });
  }
  function disconnect() {
    if (source) source.close();
    source = null;
  }
  // A browser opens few connections to one server: hidden tabs release theirs.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  // ---- a swap keeps open details and scroll positions
  const saved = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    saved.set("open", $$("details[id]", event.detail.target).filter((item) => item.open).map((item) => item.id));
    saved.set("scroll", $$(".scroll", event.detail.target).map((item) => [item.scrollLeft, item.scrollTop]));
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of saved.get("open") || []) if ($(`#${id}`)) $(`#${id}`).open = true;
    (saved.get("scroll") || []).forEach(([left, top], index) => {
      const item = $$(".block .scroll")[index];
      if (item && (left || top)) item.scrollTo(left, top);
    });
    shownAt = performance.now();
    if (requestedAt) reloadMilliseconds = shownAt - requestedAt;
    requestedAt = 0;
    writeAges();
  });

  // ---- keyboard
  const isTyping = (target) => target.closest("input, select, textarea, dialog[open], [contenteditable]");
  function moveFocus(by) {
    const neighbour = $(by > 0 ? "#next" : "#previous");
    if (neighbour) return neighbour.click();
    const rows = $$(".row-link");
    if (!rows.length) return undefined;
    const at = rows.indexOf(document.activeElement);
    const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))];
    row.focus();
    return row.scrollIntoView({ block: "nearest" });
  }
  const go = { f: "/", a: "/alerts", e: "/experiments", c: "/compare", i: "/inputs" };
  let afterG = false;
  const keys = {
    j: () => moveFocus(1),
    k: () => moveFocus(-1),
    ArrowRight: () => $("#next") && $("#next").click(),
    ArrowLeft: () => $("#previous") && $("#previous").click(),
    "/": () => $("#q") && $("#q").focus(),
    "?": () => $("#keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event.target)) return;
    if (afterG && go[event.key]) return void location.assign(rootPath + go[event.key]);
    afterG = event.key === "g";
    const isArrow = event.key.startsWith("Arrow");
    if (!keys[event.key] || (isArrow && event.target.closest(".chart, .scroll, summary"))) return;
    if (!isArrow) event.preventDefault();
    keys[event.key]();
  });
  $("#show-keys").hidden = false;
  $("#show-keys").addEventListener("click", () => $("#keys").showModal());
})();
