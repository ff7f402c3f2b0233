// The feed of awards, live: the server's stream of awards says that there is news, and the rows are fetched, as filtered.
// Without the stream the rows are looked at every few seconds until it is back. Listens only in a visible tab.
"use strict";

(() => {
  const list = document.getElementById("feed");
  if (!list || !window.panel) return;
  const { all, announce, localTimes, updated, resting } = window.panel;
  const button = document.getElementById("feed-new");
  const TOGETHER_MS = 100; // what comes within this time is fetched once
  const JOINED_MS = 1500; // after which the server surely listens for an open stream
  const EVERY_MS = Number(list.dataset.every);

  // -- rows: new ones wait behind a button while the list is being read
  let waiting = null;
  const show = () => {
    if (!waiting) return;
    list.replaceChildren(...waiting.childNodes);
    waiting = null;
    button.hidden = true;
    localTimes(list);
  };
  const take = (text) => {
    const parsed = new DOMParser().parseFromString(text, "text/html").body;
    const known = new Set(all("tbody tr", list).map((row) => row.dataset.id));
    const fresh = all("tbody tr", parsed).filter((row) => !known.has(row.dataset.id));
    updated();
    if (!fresh.length) return;
    waiting = parsed;
    if (list.contains(document.activeElement) || list.getBoundingClientRect().top < -40) {
      button.textContent = `${fresh.length} new: show`;
      button.hidden = false;
    } else {
      show();
    }
    announce(fresh.length === 1 ? "1 new award" : `${fresh.length} new awards`);
  };

  let looking = false;
  let again = false;
  const look = async () => {
    again = looking;
    if (looking || resting()) return;
    looking = true;
    try {
      const answer = await fetch(list.dataset.from, { headers: { "HX-Request": "true" } });
      if (answer.ok) take(await answer.text());
    } catch {
      // the server is away: the next look finds what came meanwhile
    } finally {
      looking = false;
      if (again) soon();
    }
  };
  let timer = 0;
  const soon = () => {
    timer = timer || setTimeout(() => {
      timer = 0;
      look();
    }, TOGETHER_MS);
  };

  // -- the stream: the browser opens it again by itself, with the last id, unless it was refused
  let stream = null;
  let cut = false;
  const leave = () => {
    stream?.close();
    stream = null;
  };
  const listen = () => {
    if (stream?.readyState === EventSource.CLOSED) leave();
    if (stream) return;
    stream = new EventSource(list.dataset.stream);
    stream.addEventListener("award", soon);
    stream.addEventListener("reset", soon);
    stream.addEventListener("open", () => {
      list.dataset.live = "yes";
      if (cut) announce("The feed is live again");
      cut = false;
      soon();
      setTimeout(look, JOINED_MS);
    });
    stream.addEventListener("error", () => {
      list.dataset.live = "no";
      if (!cut) announce("The feed was cut off; it is looked at every few seconds until it is live again");
      cut = true;
    });
  };
  const follow = () => {
    if (resting()) leave();
    else listen();
  };

  button.addEventListener("click", show);
  document.addEventListener("visibilitychange", follow);
  document.addEventListener("panel:pause", follow);
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);
  setInterval(() => {
    follow();
    if (stream?.readyState !== EventSource.OPEN) look();
  }, EVERY_MS);
  follow();
})();
