// Turns a form's JSON textareas into editors: completion by the catalog's words, faults marked at their lines.
// Without it the textareas stay. Esc, then Tab leaves an editor.
"use strict";

(() => {
  const doc = document;
  if (!window.ace) return;
  const base = doc.documentElement.dataset.root || "/panel";
  const { Range } = ace.require("ace/range");
  ace.config.set("useStrictCSP", true);
  ace.config.set("loadWorkerFromBlob", false);

  let words = null;
  const learn = async () => {
    try {
      const answer = await fetch(`${base}/_/words`, { headers: { Accept: "application/json" } });
      if (answer.ok) words = await answer.json();
    } catch {
      words = null;
    }
  };

  // Where the text ends: the objects around it with their keys, the event type in scope, in a string or not.
  const place = (text) => {
    const stack = [];
    let top = null;
    let open = false;
    for (let at = 0; at < text.length; at += 1) {
      const sign = text[at];
      if (sign === "{" || sign === "[") {
        top = { array: sign === "[", name: top?.key ?? top?.name ?? "", key: null, value: false, event: top?.event };
        stack.push(top);
      } else if (sign === "}" || sign === "]") {
        stack.pop();
        top = stack.at(-1) || null;
      } else if (sign === ":" && top) {
        top.value = true;
      } else if (sign === "," && top) {
        top.value = false;
        top.key = null;
      } else if (sign === '"') {
        let end = at + 1;
        while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
        if (end >= text.length) {
          open = true;
          break;
        }
        const said = text.slice(at + 1, end);
        if (top && !top.array && !top.value) top.key = said;
        else if (top && top.value && top.key === "event") top.event = said;
        at = end;
      }
    }
    return { top, open, names: stack.map((each) => each.name) };
  };

  const eventOf = (top, text) => top?.event || /"event"\s*:\s*"([^"]+)"/.exec(text)?.[1];
  const fieldsOf = (event) =>
    (words.events[event] ? [words.events[event]] : Object.values(words.events)).flatMap((each) => each.fields);

  // What may stand there: keys or values with their meanings.
  const fitting = ({ top, names }, text) => {
    if (!top) return [];
    const types = Object.entries(words.events).map(([name, each]) => [name, each.meaning]);
    const inArray = top.array && ["sequence"].includes(top.name);
    if (inArray || (top.value && ["event", "type", "startEvent"].includes(top.key) && top.name !== "$aggregate")) return types;
    if (top.value && top.key === "badge") return words.badges;
    if (top.value && ["field", "property", "matchProperty"].includes(top.key)) return fieldsOf(eventOf(top, text));
    if (top.array || top.value) return [];
    if (words.inside[top.name]) return words.inside[top.name];
    if (top.name === "snapshot") return words.metrics;
    if (top.name === "criteria") return [...fieldsOf(eventOf(top, text)), ...words.criteria];
    if (top.name === "payload") return fieldsOf(eventOf(top, text));
    if (names.includes("criteria") || names.includes("snapshot")) return words.field;
    return words.flow;
  };

  const completer = {
    identifierRegexps: [/[A-Za-z0-9_$.:-]/],
    getCompletions: (editor, session, position, _, done) => {
      if (!words) return done(null, []);
      const here = place(session.getTextRange(new Range(0, 0, position.row, position.column)));
      const quoted = (name) => (here.open ? name : here.top.value || here.top.array ? `"${name}"` : `"${name}": `);
      const known = new Map(fitting(here, session.getValue()));
      done(null, [...known].map(([name, meaning], index) => ({
        caption: name, value: quoted(name), meta: meaning, score: 1000 - index,
      })));
    },
  };

  // The faults that the form's judge found, at their lines.
  const mark = (editor, area) => {
    const session = editor.getSession();
    for (const id of editor.marked || []) session.removeMarker(id);
    const document_ = session.getDocument();
    const faults = [...doc.querySelectorAll(`#lint [data-fault-of="${area.id}"]`)];
    editor.marked = faults.map((each) => {
      const from = document_.indexToPosition(Number(each.dataset.from));
      const to = document_.indexToPosition(Number(each.dataset.to));
      return session.addMarker(Range.fromPoints(from, to), `flow-mark ${each.dataset.severity}`, "text");
    });
    session.setAnnotations(faults.map((each) => ({
      row: Number(each.dataset.line) - 1, column: Number(each.dataset.column) - 1,
      text: each.dataset.says, type: each.dataset.severity,
    })));
  };

  const upgrade = (area) => {
    const place_ = doc.createElement("div");
    place_.id = `${area.id}-editor`;
    area.after(place_);
    const label = doc.querySelector(`label[for="${area.id}"]`);
    const editor = ace.edit(place_, {
      value: area.value, mode: area.dataset.editor === "text" ? "ace/mode/text" : "ace/mode/json", useWorker: false,
      theme: null, minLines: 8, maxLines: 30, tabSize: 2, useSoftTabs: true, showPrintMargin: false, fontSize: 14,
      showFoldWidgets: false, displayIndentGuides: false, highlightActiveLine: false, scrollPastEnd: 0,
      enableKeyboardAccessibility: true, textInputAriaLabel: label?.textContent || "Text",
      enableBasicAutocompletion: true, enableLiveAutocompletion: area.dataset.editor === "flow", enableSnippets: false,
    });
    editor.setTheme({ cssClass: "ace-panel", isDark: false, cssText: "" });
    editor.completers = area.dataset.editor === "flow" ? [completer] : [];
    editor.session.setUseWrapMode(true);
    area.hidden = true;
    area.closest("form").classList.add("upgraded");
    label?.addEventListener("click", () => editor.focus());
    editor.on("change", () => {
      area.value = editor.getValue();
      area.dispatchEvent(new Event("input", { bubbles: true }));
    });
    area.addEventListener("panel:go", (event) => {
      event.preventDefault();
      const lines = editor.session.getDocument();
      const range = Range.fromPoints(lines.indexToPosition(event.detail.from), lines.indexToPosition(event.detail.to));
      editor.focus();
      editor.selection.setRange(range);
      editor.scrollToLine(range.start.row, true, false);
    });
    area.addEventListener("panel:put", (event) => {
      event.preventDefault();
      editor.insert(event.detail.word);
      editor.focus();
    });
    mark(editor, area);
    return () => mark(editor, area);
  };

  const marks = [...doc.querySelectorAll("textarea[data-editor]")].map(upgrade);
  if (doc.querySelector('textarea[data-editor="flow"]')) learn();
  doc.addEventListener("htmx:after:swap", () => marks.forEach((again) => again()));
})();
