// What the panel does in the browser beyond links and forms: local times, keys, pause, dialogs, charts, previews.
// Every page works without it.
"use strict";

(() => {
  const doc = document;
  const root = doc.documentElement;
  const all = (selector, within = doc) => [...within.querySelectorAll(selector)];
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

  // -- times in the reader's zone
  const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

  const ago = (then) => {
    const seconds = (then - Date.now()) / 1000;
    const [unit, length] = units.find(([, each]) => Math.abs(seconds) >= each) || units[3];
    return relative.format(Math.round(seconds / length), unit);
  };

  const localTimes = (within) => {
    for (const time of all("time[datetime]", within)) {
      const then = new Date(time.dateTime);
      if (Number.isNaN(then.getTime()) || time.hasAttribute("data-fixed")) continue;
      const full = `${day.format(then)}, ${clock.format(then)}`;
      const text = time.hasAttribute("data-ago") && Math.abs(Date.now() - then) < 7 * 86400000
        ? `${full} · ${ago(then)}` : full;
      if (time.textContent !== text) time.textContent = text;
    }
    for (const place of all("[data-zone-name]", within)) place.textContent = zone.replace(/_/g, " ");
  };

  // -- live parts: only in a visible tab, not paused, not under the reader's hand
  let paused = sessionStorage.getItem("paused") === "yes";
  const showPause = () => {
    for (const button of all("[data-pause]")) {
      button.textContent = paused ? "Go on" : "Pause";
      button.setAttribute("aria-pressed", String(paused));
    }
  };
  const flipPause = () => {
    paused = !paused;
    sessionStorage.setItem("paused", paused ? "yes" : "no");
    showPause();
    announce(paused ? "Updates are paused" : "Updates go on");
    doc.dispatchEvent(new CustomEvent("panel:pause"));
  };
  const updated = () => {
    for (const place of all("[data-updated]")) place.textContent = clock.format(new Date());
  };
  const announce = (text) => {
    const place = doc.getElementById("announce");
    if (place) place.textContent = text;
  };
  // what a part says of its state is announced when it is another one than before, not each time the part is looked at
  const told = new Map();
  const tellStates = () => {
    for (const place of all("[data-says]")) {
      const before = told.get(place.id);
      told.set(place.id, place.dataset.says);
      if (before !== undefined && before !== place.dataset.says) announce(place.dataset.says);
    }
  };

  doc.addEventListener("htmx:before:request", (event) => {
    const source = event.detail?.ctx?.sourceElement || event.target;
    const polls = (source?.getAttribute?.("hx-trigger") || "").startsWith("every");
    if (polls && (paused || doc.hidden)) event.preventDefault();
  });
  // -- what was refused is asked again by a button of the notice, which goes once it was answered
  let refused = null;
  const refuse = ({ sourceElement, target, swap, request }) => {
    refused = { source: sourceElement, target, swap, method: request.method, action: request.action };
  };
  const retry = (button) => {
    if (!refused?.source.isConnected) return void location.reload();
    button.disabled = !unreached; // a note that goes by itself keeps the focus till then
    htmx.ajax(refused.method, refused.action, { source: refused.source, target: refused.target, swap: refused.swap });
  };
  doc.addEventListener("htmx:response:error", (event) => refuse(event.detail.ctx));

  // -- a request without any answer: said once, until one is answered
  let seen = new Date();
  let unreached = false;
  doc.addEventListener("htmx:error", (event) => {
    const ctx = event.detail?.ctx;
    if (!ctx || ctx.text) return; // it was answered; something else is wrong
    refuse(ctx);
    const place = doc.getElementById("notice");
    const again = place?.querySelector("button");
    if (again) again.disabled = false;
    if (unreached || !place) return;
    unreached = true;
    const polls = (ctx.sourceElement.getAttribute("hx-trigger") || "").startsWith("every");
    const note = doc.createElement("div");
    note.className = "note warn";
    const said = doc.createElement("p");
    said.textContent = `The server is not reached. What is shown is as of ${clock.format(seen)}. `;
    if (polls) said.append("It is asked again by itself. ");
    const button = doc.createElement("button");
    Object.assign(button, { type: "button", className: "small", textContent: "Retry" });
    button.dataset.does = "retry";
    said.append(button);
    note.append(said);
    place.replaceChildren(note);
    announce("The server is not reached");
  });
  doc.addEventListener("htmx:after:request", () => {
    seen = new Date();
    if (!unreached) return;
    unreached = false;
    const place = doc.getElementById("notice");
    if (place?.contains(doc.activeElement)) doc.getElementById("main")?.focus();
    place?.replaceChildren();
    announce("The server is reached again");
  });
  doc.addEventListener("htmx:after:swap", (event) => {
    const { sourceElement, response } = event.detail.ctx;
    if (refused && sourceElement === refused.source && response.status < 400) {
      refused = null;
      doc.getElementById("notice")?.replaceChildren();
    }
    localTimes(doc);
    updated();
    tellStates();
    charts();
  });

  // -- keys
  const places = { h: "/", c: "/catalog", u: "/users", a: "/awards", j: "/jobs", d: "/dead-letters", x: "/diagnostics", s: "/settings" };
  let going = 0;
  let row = -1;
  const keysAreOn = () => localStorage.getItem("keys") !== "off";
  const dialog = () => doc.getElementById("keys");
  const moveRow = (step) => {
    const rows = all("main tbody tr");
    if (!rows.length) return;
    rows[row]?.classList.remove("chosen");
    row = Math.min(rows.length - 1, Math.max(0, row + step));
    rows[row].classList.add("chosen");
    rows[row].scrollIntoView({ block: "nearest" });
  };
  doc.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable], dialog, .ace_editor");
    if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
    if (event.key === "?") return void dialog()?.showModal();
    if (!keysAreOn()) return;
    const base = root.dataset.root || "/panel";
    if (Date.now() - going < 1200 && places[event.key]) {
      going = 0;
      location.href = base + places[event.key];
      return;
    }
    switch (event.key) {
      case "g": going = Date.now(); break;
      case "/": event.preventDefault(); doc.getElementById("find")?.focus(); break;
      case "j": moveRow(1); break;
      case "k": moveRow(-1); break;
      case "Enter": if (!event.target.closest("a, button, summary")) doc.querySelector("tr.chosen a")?.click(); break;
      case "e": doc.querySelector("[data-key-e]")?.click(); break;
      case "p": doc.querySelector("[data-key-p]")?.click(); break;
      case ".": flipPause(); break;
    }
  });

  // -- theme and dialogs
  const theme = localStorage.getItem("theme");
  if (theme) root.dataset.theme = theme;
  const flipTheme = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    charts(true);
  };
  doc.addEventListener("click", (event) => {
    const target = event.target.closest("[data-does]");
    if (!target) return;
    const value = target.dataset.value;
    switch (target.dataset.does) {
      case "pause": flipPause(); break;
      case "theme": flipTheme(); break;
      case "keys": dialog()?.showModal(); break;
      case "close": target.closest("dialog")?.close(); break;
      case "copy": navigator.clipboard?.writeText(doc.querySelector(value)?.textContent.trim() || ""); announce("Copied"); break;
      case "go-to": goTo(target); break;
      case "put": putIn(value); break;
      case "play-again": play(doc.querySelector("[data-stage]")); break;
      case "add-row": addRow(target); break;
      case "check-all": for (const box of all(value)) box.checked = true; break;
      case "step": step(target); break;
      case "retry": retry(target); break;
    }
  });
  doc.addEventListener("change", (event) => {
    if (event.target.id === "keys-on") localStorage.setItem("keys", event.target.checked ? "on" : "off");
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });

  const addRow = (button) => {
    const rows = doc.querySelector(button.dataset.value);
    const last = rows?.lastElementChild;
    if (!last) return;
    const copy = last.cloneNode(true);
    for (const input of all("input", copy)) input.value = "";
    rows.append(copy);
    copy.querySelector("input")?.focus();
  };

  // -- the flow's text: put a word in, go to a fault's place
  const putIn = (word) => {
    const text = doc.getElementById("f-flow");
    const told = new CustomEvent("panel:put", { cancelable: true, detail: { word } });
    if (!text.dispatchEvent(told)) return;
    text.focus();
    text.setRangeText(word, text.selectionStart, text.selectionEnd, "end");
    text.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const goTo = (button) => {
    const text = doc.getElementById(button.dataset.value);
    if (!text) return;
    const from = Number(button.dataset.from);
    const to = Number(button.dataset.to);
    if (!text.dispatchEvent(new CustomEvent("panel:go", { cancelable: true, detail: { from, to } }))) return;
    text.focus();
    text.setSelectionRange(from, to);
    const line = text.value.slice(0, from).split("\n").length;
    text.scrollTop = Math.max(0, (line - 3) * 21);
  };

  // -- charts: data from a table beside them, drawn by uPlot where it is loaded
  const probe = doc.createElement("span");
  const token = (name) => {
    doc.body.append(probe);
    probe.style.color = `var(${name})`; // a canvas takes a colour, not what is light in one theme and dark in the other
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const drawn = new WeakMap();
  const charts = (again = false) => {
    if (!window.uPlot) return;
    for (const place of all("[data-chart]")) {
      const text = doc.getElementById(place.dataset.chart).textContent;
      if (drawn.get(place) === text && !again) continue;
      drawn.set(place, text);
      place.replaceChildren();
      const data = JSON.parse(text);
      const axis = { stroke: token("--muted"), grid: { stroke: token("--line"), width: 1 }, ticks: { stroke: token("--line") } };
      const series = data.series.map((each) => ({
        label: each.label,
        stroke: token(each.color || "--accent"),
        width: each.marks ? 0 : each.thin ? 1 : 2,
        dash: each.thin ? [4, 4] : undefined,
        points: { show: each.marks || (data.x.length < 60 && !each.thin), size: each.marks ? 12 : 5, fill: each.marks ? token(each.color) : undefined },
      }));
      const width = Math.max(280, place.clientWidth - 18);
      new uPlot({
        width, height: 220, series: [{ label: "day" }, ...series], axes: [axis, { ...axis, size: 56 }],
        scales: { y: { range: (_, low, high) => [Math.min(0, low), high <= low ? low + 1 : high * 1.05] } },
        bands: data.band ? [{ series: data.band, fill: token("--muted-tint") }] : [],
        legend: { live: false }, cursor: { drag: { x: false, y: false } },
      }, [data.x, ...data.series.map((each) => each.y)], place);
    }
  };

  // -- the milestone preview: what the server says falls over the stage, and the film that stands in it plays
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const burst = (stage, particles) => {
    if (!window.confetti) return;
    const canvas = stage.querySelector("canvas") || stage.appendChild(doc.createElement("canvas"));
    canvas.setAttribute("aria-hidden", "true");
    canvas.width = stage.clientWidth;
    canvas.height = stage.clientHeight;
    const shoot = confetti.create(canvas, { useWorker: false, disableForReducedMotion: true });
    shoot({ particleCount: particles, spread: 80, origin: { y: 0.7 } });
  };
  const project = (film) => {
    film.currentTime = 0;
    film.play().catch(() => announce("The video cannot be played"));
  };
  const play = (stage) => {
    if (!stage) return;
    const given = JSON.parse(stage.dataset.stage || "{}");
    stage.dataset.shown = given.kind;
    const note = stage.querySelector("[data-still]");
    if (still()) {
      if (note) note.hidden = false;
      return;
    }
    if (given.particles) burst(stage, given.particles);
    stage.querySelectorAll("video").forEach(project);
  };

  // -- the event player: one line after the other
  const step = (button) => {
    const rows = all("[data-played]");
    const next = rows.find((each) => each.hidden);
    const rest = rows.filter((each) => each.hidden);
    if (button.dataset.value === "all") for (const each of rest) each.hidden = false;
    else if (button.dataset.value === "none") for (const each of rows) each.hidden = true;
    else if (next) next.hidden = false;
    const shown = rows.filter((each) => !each.hidden).length;
    announce(`${shown} of ${rows.length} events played`);
    const count = doc.getElementById("played");
    if (count) count.textContent = `${shown} of ${rows.length}`;
  };

  // what other scripts of the panel use
  window.panel = { all, announce, localTimes, updated, resting: () => paused || doc.hidden };

  const begin = () => {
    if (!doc.cookie.includes(`tz=${encodeURIComponent(zone)}`)) {
      doc.cookie = `tz=${encodeURIComponent(zone)};path=/;max-age=31536000;samesite=lax`;
    }
    localTimes(doc);
    tellStates();
    showPause();
    charts();
    const keysOn = doc.getElementById("keys-on");
    if (keysOn) keysOn.checked = keysAreOn();
    for (const image of all("img[data-over]")) image.addEventListener("error", () => image.remove());
    for (const stage of all("[data-stage][data-now]")) play(stage);
    doc.querySelector("[data-focus]")?.focus();
  };
  if (doc.readyState === "loading") doc.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
