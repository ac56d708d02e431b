// What is written and not sent yet: this browser keeps it for each chat, and of files no more than where the server has them.
(() => {
  "use strict";
  const DRAFTS = 20; // the oldest go
  const OPEN = "sightline.open";
  const TWICE_MS = 500; // as long as a double click may take

  let place, shown; // under which name this person's drafts are kept; the chat whose draft the page shows
  let written; // as Gradio told it last
  let sending, lastTold = "", move; // what Send was pressed on; what the server said last of a stored message
  let sentAt = -Infinity;
  let isCarried = false; // into the chat that is turned to

  // A page's own first, so that two pages at one chat do not meet; a page that is new has what was kept last.
  function storages() {
    try {
      return [sessionStorage, localStorage];
    } catch { // forbidden: then drafts last as long as the page
      return [];
    }
  }

  function read(storage) {
    try {
      return JSON.parse(storage.getItem(place)) ?? {};
    } catch {
      return {};
    }
  }

  function write(storage, drafts) {
    const newest = Object.entries(drafts).sort(([, a], [, b]) => b.at - a.at).slice(0, DRAFTS);
    for (; newest.length; newest.pop()) { // until they fit
      try {
        return storage.setItem(place, JSON.stringify(Object.fromEntries(newest)));
      } catch {}
    }
    storage.removeItem(place);
  }

  function put(chat, draft) {
    for (const storage of storages()) {
      const {[chat]: before, ...others} = read(storage);
      if (before || draft) write(storage, draft ? {...others, [chat]: draft} : others);
    }
  }

  // A reload comes back to the chat that is shown, to a new one only where something is written.
  function note(isWritten) {
    try {
      if (shown || isWritten) sessionStorage.setItem(OPEN, shown);
      else sessionStorage.removeItem(OPEN);
    } catch {}
  }

  function keep(...told) {
    if (shown === undefined) return;
    written = told;
    if (window.sightline.isSomethingAside()) return; // while a question is edited
    const [composer, address, pages, detail] = told;
    const {text, files} = composer, isWritten = Boolean(text.trim() || files.length || address.trim());
    put(shown, isWritten ? {text, files, address, pages, detail, at: Date.now()} : undefined);
    note(isWritten);
  }

  // What stands in the composer beside what was sent: somebody wrote on meanwhile.
  function rest({text, files}) {
    const sent = sending ?? {text, files}, paths = new Set(sent.files.map(file => file.path));
    return {
      text: text.startsWith(sent.text) ? text.slice(sent.text.length) : text,
      files: files.filter(file => !paths.has(file.path)),
    };
  }

  // The same of what is kept, where the page may have turned to another chat meanwhile.
  function restOf(chat) {
    const kept = storages().map(storage => read(storage)[chat]).find(Boolean);
    if (!kept || sending?.chat !== chat) return undefined;
    const left = rest(kept);
    return left.text.trim() || left.files.length ? {...kept, ...left} : undefined;
  }

  // Another chat is shown, or a message has been stored. Gradio leaves alone what is not returned.
  function turn(composer, address, pages, detail, chat, owner, told) {
    if (!owner) return [];
    place = `sightline.drafts.${owner}`;
    if (told !== lastTold) {
      lastTold = told;
      const [from, to] = told.split("/"); // of a new chat the first message makes one that has an id
      if (!sending?.isAside) {
        const left = restOf(from);
        put(from);
        if (left) put(to, left);
      }
      move = {from, to};
    }
    if (shown === move?.from && chat === move?.to) { // else the page has turned to another meanwhile
      shown = chat;
      move = undefined;
      note(false);
      if (sending?.isEdit) return [undefined, undefined, ""]; // what was set aside comes back
      return [rest(composer), undefined, ""];
    }
    if (chat === shown) return [];
    move = undefined;
    if (isCarried) {
      isCarried = false;
      put(shown);
      shown = chat;
      keep(composer, address, pages, detail);
      return [];
    }
    const isFirst = shown === undefined; // and something may be typed before the page knows whose it is
    shown = chat;
    const draft = storages().map(storage => read(storage)[chat]).find(Boolean);
    note(Boolean(draft));
    const isEmpty = !(composer.text || composer.files.length || address || pages); // then nothing typed by now is taken
    if (!draft) return isFirst || isEmpty ? [] : [{text: "", files: []}, "", ""];
    const text = draft.text + (isFirst ? composer.text : "");
    return [{text, files: draft.files}, draft.address, draft.pages, draft.detail];
  }

  // An empty chat, without asking the server: its conversation and what belongs to it, and what is written there.
  function begin(composer, address, pages, detail, owner, told) {
    return [[], "", "", "", "", "[]", "", [], ...turn(composer, address, pages, detail, "", owner, told)];
  }

  // While the connection is lost Gradio tells nothing, and loads the page again once it is back.
  document.addEventListener("input", ({target}) => {
    if (!written) return;
    const [composer, address, ...rest] = written, at = target.closest?.("#composer, #address")?.id;
    if (at === "composer") keep({...composer, text: target.value}, address, ...rest);
    if (at === "address") keep(composer, target.value, ...rest);
  });

  // A double click, or Enter twice, is meant once: the second would send it again, or stop the answer.
  function onSend(event) {
    const isAgain = event.type === "click"
      ? event.detail > 1 && event.target.closest?.("#composer :is(.submit-button, .stop-button)")
      : event.key === "Enter" && !event.shiftKey && event.target.closest?.("#composer textarea")
        && (event.repeat || event.timeStamp - sentAt < TWICE_MS);
    if (!isAgain) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }
  document.addEventListener("click", onSend, true);
  document.addEventListener("keydown", onSend, true);

  function send({text, files}) { // what is given changes with what is typed
    sentAt = performance.now();
    const isEdit = document.body.hasAttribute("data-editing"); // beside which the chat's draft may be set aside
    sending = {
      chat: shown, text, files: [...files], isEdit, isAside: isEdit && window.sightline.isSomethingAside(),
    };
  }

  function carry() {
    isCarried = true;
  }

  function forget() {
    for (const storage of storages()) storage.removeItem(place);
  }

  function opened() {
    try {
      return sessionStorage.getItem(OPEN);
    } catch {
      return null;
    }
  }

  Object.assign(window.sightline, {drafts: {keep, turn, begin, send, carry, forget, opened}});
})();
