// The world a condition runs in: nothing that tells the time or draws a lot, nothing that can be changed.
// `__pull` is the host's: it gives the work of the call that is due once, and null to whoever else asks.
(() => {
  "use strict";
  const pull = globalThis.__pull, parse = JSON.parse, compile = Function, keys = Object.keys, freeze = Object.freeze;
  for (const name of ["__pull", "Date", "performance", "Atomics", "SharedArrayBuffer", "WeakRef",
    "FinalizationRegistry", "queueMicrotask", "console"]) delete globalThis[name];
  for (const [holder, name] of [[Math, "random"], [Error, "stackTraceLimit"], [Error, "prepareStackTrace"]]) {
    delete holder[name];  // the last two keep what they are set to even where their holder is frozen
  }

  const frozen = (value) => {
    if (typeof value === "object" && value !== null) {
      freeze(value);
      for (const key of keys(value)) frozen(value[key]);
    }
    return value;
  };

  // A thrown value may be anything; what reading it does is stopped as the condition itself is.
  const told = (thrown) => {
    if (typeof thrown !== "object" || thrown === null) return thrown === null ? "null" : `${typeof thrown}`;
    const { name, message } = thrown;
    return `${typeof name === "string" ? name.slice(0, 40) : "Error"}: ${typeof message === "string" ? message : ""}`.slice(0, 200);
  };

  const made = (source) => {
    try {
      // Both must parse: then the text is one expression and cannot close what stands around it.
      compile(`"use strict"; return [${source}\n]`);
      return compile(`"use strict"; return (${source}\n)`);
    } catch (thrown) {
      return told(thrown);
    }
  };

  const makers = [], settings = [];
  let event = null;
  const entry = (number) => {
    const work = pull();
    if (work === null) throw new TypeError("not a function");
    const [text, source, params] = work;
    if (source !== null) {
      makers[number] = made(source);
      settings[number] = params === null ? null : frozen(parse(params));
    }
    if (text !== null) event = frozen(parse(text));
    const maker = makers[number];
    if (typeof maker === "string") return maker;
    if (number === 0) return true;
    try {
      // Evaluated anew for each call: what a condition keeps in a closure is gone with the call.
      const condition = maker();
      if (typeof condition !== "function") return "the source is not a function";
      const verdict = condition(event, settings[number]);
      return typeof verdict === "boolean" ? verdict : `it returned ${typeof verdict}, not true or false`;
    } catch (thrown) {
      return told(thrown);
    }
  };
  Object.defineProperty(globalThis, "$", { value: entry });

  // Freeze everything that can be reached: a condition leaves nothing behind for the next one.
  const reached = new Set();
  const harden = (value) => {
    if ((typeof value !== "object" && typeof value !== "function") || value === null || reached.has(value)) return;
    reached.add(value);
    harden(Object.getPrototypeOf(value));
    for (const key of Reflect.ownKeys(value)) {
      const { value: held, get, set } = Object.getOwnPropertyDescriptor(value, key);
      harden(held);
      harden(get);
      harden(set);
    }
    freeze(value);
  };
  const hidden = [
    function* () {}, async function () {}, async function* () {}, [][Symbol.iterator](), new Map()[Symbol.iterator](),
    new Set()[Symbol.iterator](), ""[Symbol.iterator](), "".matchAll(/a/g), [].values().map((x) => x),
    Iterator.from({ next() {} }), (function* () {})(), (async function* () {})(), parse.bind(null),
    (function () { return arguments; })(),
  ];
  for (const one of hidden) harden(one);
  harden(globalThis);
})();
