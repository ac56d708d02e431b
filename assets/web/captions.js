// The captioning tab: brings pictures, asks for captions, shows them as they come, and keeps what is corrected.
// All of it is the server's (ui/captioning.py): this page may be closed at any moment, and finds it again.
(() => {
  "use strict";
  const {el, button, count, heading, leftOut, filesOf, dropzone, choices, drawStart, begin, picture} = window.sightline.captions;
  const BUSY_MS = 1000, IDLE_MS = 5000, SAVE_MS = 700, SOON_MS = 200, PAGE = 100;
  let offer, jobs = [], job = null, id = "", revision = -1, from = 0, rows = new Map(), timer, offline = false;
  let adding = null, notice = "", shown = "", wanted = null, tried = false;
  const UNSAID = {preset: "sentence", prompt: "", language: "", system: "", trigger: "", existing: "skip", fields: [],
    schema: "", temperature: "", maxTokens: "", seed: ""};
  const unsaved = new Map(); // path of a row -> text that the server does not have yet
  const refused = new Set(); // paths of those that it could not take
  const at = row => `${id}/rows/${row}`;

  // The server.
  async function call(path, body, method = body === undefined ? "GET" : "POST") {
    const raw = body instanceof Blob;
    const init = {method, cache: "no-store"};
    if (body !== undefined) init.body = raw ? body : JSON.stringify(body);
    let answer;
    try {
      answer = await fetch(`captions/${path}`, init);
    } catch {
      setOffline(true);
      throw new Error("The app does not answer. Look at the connection; what was done is kept.");
    }
    setOffline(false);
    const told = await answer.json().catch(() => ({error: "The app did not answer as expected. Reload the page."}));
    if (!answer.ok) throw Object.assign(new Error(told.error), {status: answer.status});
    return told;
  }
  async function attempt(work) {
    try {
      notice = "";
      await work();
    } catch (error) {
      notice = error.message;
    }
    draw();
    if (notice) document.querySelector("#captions-head .notice")?.scrollIntoView({block: "nearest"});
  }
  function setOffline(now) {
    if (offline === now) return;
    offline = now;
    if (!now) for (const path of [...unsaved.keys()]) save(path);
    drawHead();
  }

  // Looking.
  async function look() {
    clearTimeout(timer);
    if (!document.body.classList.contains("captions")) return;
    let wait = IDLE_MS, asked = id;
    try {
      if (!offer) await list();
      asked = id;
      if (id) {
        const told = await call(`${id}?since=${revision}&from=${from}`);
        if (asked === id) {
          const before = job;
          job = told;
          revision = told.revision;
          for (const one of jobs) if (one.id === id) one.counts = told.counts; // by which a list offers it
          for (const row of told.rows) rows.set(row.id, row);
          const same = before && before.state === job.state && before.running === job.running;
          same && job.state !== "draft" ? update(told.rows) : draw();
          if (job.running) wait = BUSY_MS;
        }
      }
    } catch (error) {
      if (error.status === 404) await forgetJob(asked);
      else if (!offline) { notice = error.message; drawHead(); }
      wait = BUSY_MS * 2;
    }
    clearTimeout(timer);
    timer = setTimeout(look, document.hidden ? wait * 4 : wait);
  }
  function lookSoon() {
    clearTimeout(timer);
    timer = setTimeout(look, SOON_MS);
  }
  async function list() {
    offer = await call("list");
    jobs = offer.jobs;
    if (!id) open(jobs[0]?.id ?? "");
  }
  function open(jobId) {
    id = jobId;
    job = null, revision = -1, from = 0, wanted = null;
    rows = new Map();
    shown = "";
    draw();
  }
  function forgetText(path) {
    unsaved.delete(path);
    refused.delete(path);
  }
  async function forgetJob(gone) {
    for (const path of [...unsaved.keys()]) if (path.startsWith(`${gone}/`)) forgetText(path);
    if (id === gone) open("");
    offer = null;
    await list().catch(() => {});
  }

  // Pictures in.
  const isTaken = file => offer.suffixes.some(suffix => file.name.toLowerCase().endsWith(suffix));
  async function ensureJob() {
    if (id && !job) job = await call(id);
    if (id && job.state === "draft") return;
    open((await call("new", {})).id);
    offer.jobs = jobs = (await call("list")).jobs;
  }
  const add = files => attempt(async () => {
    const taken = files.filter(isTaken);
    const left = files.filter(file => !isTaken(file)).map(file => [file.name, "Only pictures and ZIPs are taken."]);
    if (taken.length) {
      await ensureJob();
      adding = {done: 0, total: taken.length};
      draw();
      const into = id;
      for (const file of taken) { // one after the other: they stay in their order
        try {
          await call(`${into}/file?name=${encodeURIComponent(file.name)}`, file);
        } catch (error) {
          left.push([file.name, error.message]);
        }
        adding.done += 1;
        drawHead();
      }
      adding = null;
      await look();
    }
    notice = leftOut(left);
  });
  const addWritten = (where, field) => attempt(async () => {
    if (!field.value.trim()) return;
    await ensureJob();
    await call(`${id}/${where}`, {text: field.value});
    field.value = "";
    await look();
  });

  // Work.
  const start = trial => attempt(async () => {
    const options = {...wanted, model: document.querySelector("#model-facts [data-model]")?.dataset.model ?? ""};
    await call(`${id}/start`, {options, trial});
    tried = trial;
    await look();
  });
  const act = (what, body = {}) => attempt(async () => {
    const whose = id;
    await call(`${whose}/${what}`, body);
    if (what === "delete") await forgetJob(whose);
    await look();
  });
  const remove = () => confirm("Delete this job with its pictures and captions for good?") && act("delete");

  // Correcting. When the server answers another job, or other rows, may be shown: the path tells whose answer it is.
  function take(path, row) {
    if (path !== at(row.id) || !rows.has(row.id)) return;
    rows.set(row.id, row);
    update([row]);
  }
  async function save(path) { // whether the server has it
    const text = unsaved.get(path);
    if (text === undefined) return true;
    try {
      const told = await call(path, {text});
      if (unsaved.get(path) === text) forgetText(path);
      take(path, told.row);
      return true;
    } catch (error) {
      if (error.status === 404) forgetText(path);
      else if (error.status) refused.add(path);
      if (error.status) notice = error.message;
      drawHead();
      update([...rows.values()].filter(row => path === at(row.id)));
      return false;
    }
  }
  const change = (row, body) => attempt(async () => {
    const path = at(row), told = await call(path, body);
    forgetText(path);
    if (path !== at(row) || !rows.has(row)) return;
    rows.set(row, told.row);
    document.querySelector(`#caption-${row}`)?.remove();
    drawRows();
  });
  function step(field, by) {
    const fields = [...document.querySelectorAll("#captions .caption-row textarea:not([disabled])")];
    const next = fields[fields.indexOf(field) + by];
    next?.focus();
    next?.closest(".caption-row").scrollIntoView({block: "nearest"});
  }
  async function accept(row, field) {
    const path = at(row), accepted = !rows.get(row).accepted || Boolean(field);
    step(field, 1);
    if (!await save(path)) return; // it would be the old words that are accepted
    try {
      take(path, (await call(path, {accepted})).row);
    } catch (error) {
      notice = error.message;
      drawHead();
    }
  }
  function onKey(event, row) {
    const field = event.target;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) accept(row, field);
    else if (event.altKey && event.key === "ArrowDown") step(field, 1);
    else if (event.altKey && event.key === "ArrowUp") step(field, -1);
    else return;
    event.preventDefault();
  }

  // Showing.
  const place = () => document.querySelector("#captions");
  function draw() {
    if (!place()) return;
    const stage = !id ? "empty" : !job ? "loading" : job.running ? "running" : job.state;
    if (stage !== shown) {
      place().replaceChildren(
        el("div", {id: "captions-head"}), el("div", {id: "captions-form"}), el("ul", {id: "captions-rows"}),
        el("div", {id: "captions-more"}));
      shown = stage;
      place().dataset.stage = stage;
      document.querySelector("#captions-place").scrollTop = 0;
      document.querySelector("#captions-form").append(...form(stage));
    }
    if (stage === "draft") drawStart(document.querySelector("#captions .choices"), job.counts.total, start);
    drawHead();
    drawRows();
    if (tried && stage === "draft") { // what has come of it stands below the form
      tried = false;
      document.querySelector("#captions .start")?.scrollIntoView({block: "start"});
    }
  }
  function form(stage) {
    const bring = {offer, jobs, add, addWritten, go: jobId => { open(jobId); look(); }};
    if (stage === "empty") return [dropzone(true, bring)];
    if (stage !== "draft") return [];
    wanted ??= {...UNSAID, ...(job.spec.preset ? job.spec : {})};
    const hasExisting = [...rows.values()].some(row => row.existing);
    return [dropzone(false, bring), choices(wanted, {offer, hasExisting})];
  }
  function update(changed) {
    drawHead();
    for (const row of changed) if (row) drawRow(row);
    if ((document.querySelector("#captions-rows")?.childElementCount ?? 0) !== rows.size) drawRows();
  }

  function drawHead() {
    const head = document.querySelector("#captions-head");
    if (!head) return;
    const parts = [];
    if (offline) parts.push(el("p", {className: "notice", aria: {role: "alert"}},
      "The app does not answer. What was done is kept; this page goes on by itself once it is back."));
    if (notice) parts.push(el("p", {className: "notice", aria: {role: "alert"}}, notice));
    if (adding) parts.push(el("p", {className: "notice", aria: {role: "status"}},
      `Adding ${adding.done} of ${adding.total} `, el("progress", {value: adding.done, max: adding.total})));
    if (job) parts.push(...jobHead());
    const focused = document.activeElement?.dataset.act;
    renew(head, parts);
    if (focused) head.querySelector(`[data-act="${focused}"]`)?.focus();
  }
  function renew(box, parts) { // what is the same stays: a menu that is open, a notice that has been heard
    parts.forEach((part, n) => {
      const old = box.childNodes[n];
      if (!old) box.append(part);
      else if (old.isEqualNode(part)) return;
      else if (old.tagName === "DIV" && old.className === part.className) renew(old, [...part.childNodes]);
      else old.replaceWith(part);
    });
    while (box.childNodes.length > parts.length) box.lastChild.remove();
  }
  function jobHead() {
    const {counts} = job, state = job.running ? "running" : job.state, {title, words} = heading(job);
    const line = el("div", {className: "captions-title"}, el("h2", {}, title), picker(),
      words ? el("span", {className: "muted", aria: {role: "status"}}, words) : null);
    const parts = [line];
    if (state === "running") parts.push(el("progress", {
      className: "captions-bar", value: counts.total - counts.pending, max: counts.total, aria: {"aria-label": "Progress"}}));
    if (job.note) parts.push(el("p", {className: "notice", aria: {role: "alert"}}, job.note));
    const tools = [], act_ = (name, text, work, primary) => {
      const made = button(text, work, {className: primary ? "primary" : ""});
      made.dataset.act = name;
      tools.push(made);
    };
    const made = counts.done + counts.skipped, mayGoOn = ["paused", "cancelled"].includes(state) && counts.pending > 0;
    if (state === "running") {
      if (!job.pausing) act_("pause", "Pause", () => act("pause"));
      act_("cancel", "Cancel", () => act("cancel"));
    }
    if (mayGoOn) act_("go", "Go on", () => act("start"), true);
    if (made && state !== "draft") tools.push(
      ...[["csv", "Table (CSV)"], ["zip", "Text files (ZIP)"], ["jsonl", "JSONL"]].map(([kind, text]) => {
        const link = el("a", {className: `download${kind === "csv" && state !== "running" && !mayGoOn ? " primary" : ""}`,
          href: `captions/${id}/download/${kind}`, download: `captions.${kind}`}, `↓ ${text}`);
        link.dataset.act = kind;
        return link;
      }));
    if (counts.failed && ["paused", "cancelled", "done"].includes(state))
      act_("retry", `Retry ${counts.failed} failed`, () => act("retry", {which: "failed"}), !made && !mayGoOn);
    if (state !== "running") {
      if (state !== "draft") act_("new", "New pictures", () => open(""));
      const away = button(state === "draft" ? "Discard" : "Delete", remove, {className: "quiet"});
      away.dataset.act = "delete";
      line.append(away);
    }
    if (tools.length) parts.push(el("div", {className: "captions-tools"}, tools));
    if (state !== "draft" && counts.done) parts.push(el("p", {className: "muted keys"},
      "Correct a caption by writing into it. Ctrl+Enter accepts it and goes on, Alt+↓ and Alt+↑ move."));
    if (offer?.notKept) parts.push(el("p", {className: "muted"}, offer.notKept));
    return parts;
  }
  function picker() {
    const known = jobs.filter(one => one.counts.total || one.id === id);
    if (known.length < 2) return null;
    const menu = el("select", {onchange: event => { open(event.target.value); look(); }, aria: {"aria-label": "Your captioning jobs"}},
      known.map(one => el("option", {value: one.id, selected: one.id === id},
        `${one.title}, ${count((one.id === id ? job : one).counts.total, "picture")}`)));
    menu.dataset.act = "pick";
    return menu;
  }

  function drawRows() {
    const box = document.querySelector("#captions-rows");
    if (!box) return;
    const known = new Set([...rows.values()].map(row => `caption-${row.id}`));
    for (const item of [...box.children]) if (!known.has(item.id)) item.remove();
    for (const row of [...rows.values()].sort((a, b) => a.id - b.id)) drawRow(row);
    const total = job?.counts.total ?? 0, more = document.querySelector("#captions-more");
    more.replaceChildren(...(total > PAGE ? [el("div", {className: "captions-tools"},
      from ? button("Earlier", () => turn(-PAGE)) : null,
      el("span", {className: "muted"}, `${from + 1} to ${Math.min(from + PAGE, total)} of ${total}`),
      from + PAGE < total ? button("Later", () => turn(PAGE)) : null)] : []));
  }
  function turn(by) {
    from += by;
    revision = -1;
    rows = new Map();
    drawRows();
    look();
  }
  const WAITS = {pending: "waiting", failed: "failed", skipped: "had a caption", done: ""};
  function drawRow(row) {
    const box = document.querySelector("#captions-rows");
    if (!box) return;
    let item = box.querySelector(`#caption-${row.id}`);
    if (!item) {
      const path = at(row.id);
      const field = el("textarea", {rows: 2, aria: {"aria-label": `Caption of ${row.name}`}, onkeydown: event => onKey(event, row.id),
        oninput: () => { unsaved.set(path, field.value); refused.delete(path); mark(item, row.id); clearTimeout(item.timer); item.timer = setTimeout(() => save(path), SAVE_MS); },
        onblur: () => { clearTimeout(item.timer); save(path); }});
      const tools = el("div", {className: "captions-tools"}), seen = el("div", {className: "thumb"});
      seen.addEventListener("refused", lookSoon);
      item = el("li", {id: `caption-${row.id}`, className: "caption-row"}, seen,
        el("div", {className: "body"}, el("div", {className: "name"}), field, el("div", {className: "existing muted"}), el("p", {className: "reason"}), tools));
      const after = [...box.children].find(one => Number(one.id.slice(8)) > row.id);
      box.insertBefore(item, after ?? null);
    }
    item.dataset.state = row.state;
    item.classList.toggle("accepted", row.accepted);
    item.classList.toggle("refused", row.state === "pending" && row.damaged);
    picture(item.querySelector(".thumb"), row.thumb ? `captions/${id}/thumb/${row.id}` : row.damaged ? "" : null, row.name);
    item.querySelector(".name").textContent = row.name;
    const field = item.querySelector("textarea"), isDraft = job.state === "draft" && row.state === "pending";
    const text = unsaved.get(at(row.id)) ?? row.caption;
    if (field.value !== text) field.value = text;
    field.disabled = row.state === "pending";
    field.placeholder = row.state === "pending" ? (isDraft ? "" : "…") : row.state === "failed" ? `No caption. Write one, or ${job.state === "draft" ? "remove it" : "retry"}.` : "";
    field.hidden = isDraft;
    const old = item.querySelector(".existing"), showsOld = row.existing && row.existing !== row.caption;
    old.textContent = showsOld ? `Before: ${row.existing}` : "";
    item.querySelector(".reason").textContent = ["failed", "pending"].includes(row.state) ? row.reason : row.cut && !row.edited ? "It was cut off at its longest length." : "";
    const tools = [];
    if (row.state === "done" || row.state === "skipped") tools.push(button(row.accepted ? "✓ Accepted" : "Accept", () => accept(row.id), {className: row.accepted ? "on" : "", aria: {"aria-pressed": String(row.accepted)}}));
    if (row.edited) tools.push(button("Undo edit", () => change(row.id, {undo: true})));
    if (!job.running && row.state !== "pending" && job.state !== "draft") tools.push(button("Retry", () => act("retry", {which: [row.id]}), {aria: {"aria-label": `Retry ${row.name}`}}));
    if (job.state === "draft" && ["pending", "failed"].includes(row.state)) tools.push(button("Remove", () => attempt(async () => { await call(`${id}/rows/${row.id}`, {remove: true}); rows.delete(row.id); await look(); shown = ""; }), {aria: {"aria-label": `Remove ${row.name}`}}));
    const had = document.activeElement && item.querySelector(".captions-tools").contains(document.activeElement) ? document.activeElement.textContent : "";
    item.querySelector(".captions-tools").replaceChildren(...tools);
    if (had) [...item.querySelectorAll("button")].find(one => one.textContent === had)?.focus();
    mark(item, row.id);
  }
  function mark(item, row) {
    const shown_ = rows.get(row);
    const words_ = unsaved.has(at(row)) ? (offline || refused.has(at(row)) ? "not saved yet" : "saving …") : shown_?.edited ? "edited, saved"
      : job.state === "draft" && shown_?.state === "pending" ? "" : WAITS[shown_?.state] ?? "";
    item.querySelector(".name").dataset.words = words_;
  }

  begin({onShow: () => { draw(); look(); }, onDrop: add, mayLeave: () => !unsaved.size});
})();
