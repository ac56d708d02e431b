// What the captioning tab asks: which pictures, and what is wanted of each. captions.js has the rest.
(() => {
  "use strict";
  const {count} = window.sightline.captions;

  // A small way to make elements: text is text, never markup.
  function el(tag, props = {}, ...children) {
    const made = Object.assign(document.createElement(tag), props);
    for (const [name, value] of Object.entries(props.aria ?? {})) made.setAttribute(name, value);
    made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
    return made;
  }
  const button = (text, onclick, props = {}) => el("button", {type: "button", textContent: text, onclick, ...props});

  // Pictures in.
  async function filesOf(items) {
    const found = [];
    async function walk(entry) {
      if (entry.isFile) found.push(await new Promise((yes, no) => entry.file(yes, no)));
      else {
        const reader = entry.createReader();
        for (let some; (some = await new Promise((yes, no) => reader.readEntries(yes, no))).length;)
          for (const inner of some) await walk(inner);
      }
    }
    for (const entry of [...items].map(item => item.webkitGetAsEntry?.()).filter(Boolean)) await walk(entry);
    return found;
  }
  function dropzone(isEmpty, {offer, jobs, add, addWritten, go}) {
    const picker = el("input", {type: "file", multiple: true, id: "caption-files", accept: offer?.suffixes.join(",") ?? "",
      onchange: event => { add([...event.target.files]); event.target.value = ""; }});
    const label = el("label", {className: "primary", htmlFor: "caption-files"}, isEmpty ? "Choose pictures" : "Add more");
    const address = el("input", {type: "text", placeholder: "or web addresses: https://…", aria: {"aria-label": "Web addresses of pictures"},
      onkeydown: event => event.key === "Enter" && addWritten("addresses", address)});
    const earlier = jobs.filter(one => one.counts.total).slice(0, 5);
    const zone = el("div", {className: isEmpty ? "dropzone" : "dropzone small"},
      isEmpty ? el("h2", {}, "Captions for many pictures") : null,
      isEmpty ? el("p", {className: "muted"}, "Drop pictures here, a folder of them, or a ZIP. ",
        offer?.most ? `Up to ${offer.most} at a time.` : "") : null,
      isEmpty && offer?.notKept ? el("p", {className: "muted"}, offer.notKept) : null,
      el("div", {className: "captions-tools"}, el("span", {className: "file"}, picker, label), address,
        button("Add", () => addWritten("addresses", address))),
      offer?.folders.length ? folderRow(offer.folders[0], addWritten) : null,
      isEmpty && earlier.length ? el("div", {className: "captions-tools"}, el("span", {className: "muted"}, "Earlier:"),
        earlier.map(one => button(`${one.title}, ${count(one.counts.total, "picture")}`, () => go(one.id)))) : null);
    for (const kind of ["dragover", "dragenter"]) zone.addEventListener(kind, event => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    return zone;
  }
  function folderRow(place, addWritten) {
    const field = el("input", {type: "text", value: place, aria: {"aria-label": "Folder of the server"}});
    return el("div", {className: "captions-tools"}, el("span", {className: "muted"}, "Folder of the server:"), field,
      button("Add folder", () => addWritten("folder", field)));
  }

  // What is wanted: each field writes into `wanted`, which is what is posted.
  function choices(wanted, {offer, hasExisting}) {
    const more = el("div", {className: "captions-more"});
    const fill = () => more.replaceChildren(...extras(wanted, offer, hasExisting));
    const cards = el("div", {className: "presets"}, offer.presets.map(preset => {
      const radio = el("input", {type: "radio", name: "preset", value: preset.id, checked: wanted.preset === preset.id,
        onchange: () => { wanted.preset = preset.id; wanted.prompt = ""; fill(); }});
      return el("label", {className: "preset"}, radio, el("b", {}, preset.title), el("small", {}, preset.hint));
    }));
    fill();
    return el("fieldset", {className: "choices"}, el("legend", {}, "What would you like?"), cards, more,
      el("div", {className: "captions-tools start"}));
  }
  function drawStart(box, total, start) { // again whenever pictures come or go
    box.hidden = !total;
    if (box.dataset.total === String(total)) return; // whoever stands on one of the buttons stays there
    box.dataset.total = total;
    box.querySelector(".start").replaceChildren(
      ...(total > 3 ? [button("Try it on 3", () => start(true))] : []),
      button(`Caption ${total === 1 ? "it" : `all ${total}`}`, () => start(false), {className: "primary"}));
  }
  const labelled = (text, field, hint) =>
    el("label", {className: "field"}, el("span", {}, text), field, hint ? el("small", {className: "muted"}, hint) : null);
  function extras(wanted, offer, hasExisting) {
    const bound = (tag, name, props = {}) => el(tag, {value: wanted[name] ?? "", oninput: event => { wanted[name] = event.target.value; }, ...props});
    const chosen = (name, ways) => el("select", {onchange: event => { wanted[name] = event.target.value; }},
      ways.map(([value, text]) => el("option", {value, selected: value === wanted[name]}, text)));
    const preset = offer.presets.find(one => one.id === wanted.preset), isOwn = preset.id === "own", parts = [];
    if (preset.id === "training") parts.push(labelled("First word", bound("input", "trigger", {type: "text", placeholder: "sks dog"}), "Each caption begins with it."));
    if (preset.id === "fields") parts.push(fieldTable(wanted, offer.types));
    const prompt = bound("textarea", "prompt", {rows: 3, placeholder: preset.prompt || "What should the model do with each picture?"});
    if (isOwn) parts.push(labelled("Your words", prompt, "{filename} stands for the picture's name, {existing} for a caption it has."));
    parts.push(labelled("Language", chosen("language", [["", "As the model likes"], ...offer.languages.map(one => [one, one])])));
    if (hasExisting) parts.push(labelled("Pictures that have a caption", chosen("existing",
      [["skip", "Leave them as they are"], ["overwrite", "Replace them"], ["append", "Write behind them"], ["both", "Show both"]])));
    const number = (name, placeholder, inputMode) => bound("input", name, {type: "text", inputMode, placeholder});
    const isOpen = wanted.system || wanted.temperature || wanted.maxTokens || wanted.seed || (wanted.prompt && !isOwn)
      || (wanted.schema && preset.id === "fields");
    parts.push(el("details", {open: Boolean(isOpen)}, el("summary", {}, "More"), el("div", {className: "captions-more"},
      isOwn ? null : labelled("Other words for the model", prompt, "Instead of the ready ones. {filename} and {existing} may stand in them."),
      preset.id !== "fields" ? null : labelled("JSON schema",
        bound("textarea", "schema", {rows: 4, spellcheck: false, placeholder: '{"type": "object", "properties": {…}}'}),
        "Instead of the columns above, for those who have one."),
      labelled("System prompt", bound("textarea", "system", {rows: 2}), "What the model should keep in mind with every picture."),
      el("div", {className: "numbers"},
        labelled("Temperature", number("temperature", String(offer.temperature), "decimal"), "0: the likeliest words; up to 2: freer."),
        labelled("Longest caption", number("maxTokens", String(preset.maxTokens), "numeric"), "In tokens, each about ¾ of a word."),
        labelled("Seed", number("seed", "none", "numeric"), "The same number gives the same captions.")),
      el("p", {className: "muted"}, "The model is the one of the settings."))));
    return parts;
  }
  function fieldTable(wanted, types) {
    if (!wanted.fields?.length) wanted.fields = [{name: "", kind: types[0]}];
    const table = el("div", {className: "fields"});
    const fill = () => table.replaceChildren(
      ...wanted.fields.map((field, n) => el("div", {className: "captions-tools"},
        el("input", {type: "text", value: field.name, placeholder: "Column, as colour", aria: {"aria-label": `Name of column ${n + 1}`}, oninput: event => { field.name = event.target.value; }}),
        el("input", {type: "text", value: field.kind, aria: {"aria-label": `Type of column ${n + 1}`, list: "field-types"}, oninput: event => { field.kind = event.target.value; }}),
        button("Remove", () => { wanted.fields.splice(n, 1); fill(); }, {aria: {"aria-label": `Remove column ${n + 1}`}}))),
      button("Add a column", () => { wanted.fields.push({name: "", kind: types[0]}); fill(); }),
      el("datalist", {id: "field-types"}, types.map(type => el("option", {value: type}))),
      el("small", {className: "muted"}, `Types: ${types.join(", ")}; or choices with | between, as red|green|blue.`));
    fill();
    return table;
  }

  Object.assign(window.sightline.captions, {el, button, filesOf, dropzone, choices, drawStart});
})();
