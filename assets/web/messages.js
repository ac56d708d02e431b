// What can be done with one message: edit it, turn to another version of it, go on with it. Its pictures' names.
(() => {
  "use strict";
  const MEASURE_MS = 400;
  let rows = [], pressed = "", aside, edited = "", editedIn = "", focused, watched, measuring, isResumed = false;

  // What the server tells of each row of the conversation, from its beginning.
  function tell(told) {
    rows = JSON.parse(told || "[]").map(row => ({...row, key: JSON.stringify(row)}));
    decorate();
  }

  // Gradio's own buttons stand below each row; ours stand beside them. Again where it has made a row anew.
  function decorate() {
    watch();
    const shown = [...document.querySelectorAll("#chat [role=log] > .message-wrap > .message-row")]
      .filter(row => !row.closest("#growing"));
    if (shown.length !== rows.length) return;
    shown.forEach((row, place) => {
      row.classList.toggle("edited", rows[place].id === edited);
      row.classList.toggle("left-out", rows[place].leftOut);
      dressPictures(row, rows[place]); // Gradio may bring them later than the row
      const bar = row.nextElementSibling?.querySelector(".icon-button-wrapper");
      const old = bar?.querySelector(".turn");
      if (!bar || old?.dataset.key === rows[place].key) return;
      old?.remove();
      bar.append(tools(rows[place], place));
    });
    const again = focused && shown[focused.place]?.nextElementSibling?.querySelector(focused.which);
    if (!again || document.activeElement !== document.body) return;
    focused = undefined;
    again.focus();
  }

  function tools(row, place) {
    const group = document.createElement("span"), isQuestion = row.role === "user";
    group.className = "turn";
    group.dataset.key = row.key;
    if (isQuestion) group.append(button("edit", "Edit", "Edit this question", () => press("edit", row.id)));
    if (row.cut) group.append(button("resume", "Continue", "Continue this answer", () => press("resume", row.id)));
    if (row.leftOut) group.append(button("seen", "Not read by the model any more. Take back", "Let the model read this again",
      () => press("leave-out", JSON.stringify({of: row.of, picture: null, leftOut: false}))));
    if (row.versions.length) group.append(versions(row, place, isQuestion ? "question" : "answer"));
    return group;
  }

  function versions(row, place, what) {
    const group = document.createElement("span"), count = document.createElement("span");
    const here = row.versions.indexOf(row.id), many = row.versions.length;
    group.className = "versions";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", `Version ${here + 1} of ${many} of this ${what}`);
    count.textContent = `${here + 1}/${many}`;
    const arrow = (kind, sign, name, to) => {
      const made = button(kind, sign, `${name} version of this ${what}`, () => {
        press("show", row.versions[to]);
        focused = {place, which: `.${kind}`}; // which is made anew
      });
      if (!row.versions[to]) made.setAttribute("aria-disabled", "true");
      return made;
    };
    group.append(arrow("back", "‹", "Previous", here - 1), count, arrow("on", "›", "Next", here + 1));
    return group;
  }

  function button(kind, text, name, act) {
    const made = document.createElement("button");
    made.className = kind;
    made.textContent = text;
    made.setAttribute("aria-label", name);
    made.title = name;
    made.addEventListener("click", () => made.ariaDisabled === "true" || act());
    return made;
  }

  function press(what, id) {
    pressed = id;
    isResumed = what === "resume";
    focused = undefined;
    document.querySelector(`#${what}, #${what}-turn`).click();
  }

  // Gradio names none of them, and makes two buttons of each, of which one is enough. Ours says what the model sees.
  function dressPictures(row, {pictures, leftOut, key}) {
    for (const old of row.querySelectorAll(".sees")) { // Gradio may make a text of what was a picture in another chat
      if (old.closest(".component")) continue;
      delete old.parentElement.dataset.key;
      old.remove();
    }
    row.querySelectorAll(".component").forEach((frame, place) => {
      const show = frame.querySelector(".image-container > button");
      if (!show || frame.dataset.key === key) return;
      frame.dataset.key = key;
      const {name, ...picture} = pictures[place] ?? {name: "picture"};
      show.querySelector("img").alt = name;
      show.setAttribute("aria-label", `Show “${name}” large`);
      show.closest("[data-testid]").removeAttribute("aria-label");
      frame.querySelector(".sees")?.remove();
      frame.classList.toggle("left-out", Boolean(picture.leftOut));
      if (!picture.of || leftOut) return;
      const [text, does] = picture.leftOut ? ["Not seen", "Let the model see"] : ["Seen", "Drop from context:"];
      frame.append(button("sees", text, `${does} “${name}”`,
        () => press("leave-out", JSON.stringify({...picture, leftOut: !picture.leftOut}))));
    });
  }

  // Whether the reply that grows now was there in part already; to be asked once.
  function goesOn() {
    const answer = isResumed;
    isResumed = false;
    return answer;
  }

  // What the next message takes of the context is asked for when nothing has changed for a moment.
  function measureSoon() {
    clearTimeout(measuring);
    measuring = setTimeout(() => document.querySelector("#measure").click(), MEASURE_MS);
  }

  function watch() {
    const chat = document.querySelector("#chat");
    if (!chat || chat === watched) return;
    watched = chat;
    new MutationObserver(changes => {
      const growing = document.querySelector("#growing");
      if (changes.some(change => !growing?.contains(change.target))) decorate();
    }).observe(chat, {childList: true, subtree: true});
  }

  // A question is edited in the composer. What that held before comes back afterwards; until then it is the chat's draft.
  function beginEdit(composer, chat) {
    [aside, editedIn] = [structuredClone(composer), chat];
    return pressed;
  }

  function editBegan(id) {
    if (!id) aside = undefined; // it was refused
  }

  function isSomethingAside() {
    return Boolean(aside?.text.trim() || aside?.files.length);
  }

  function editing(id, composer, chat) {
    edited = id;
    document.body.toggleAttribute("data-editing", Boolean(id));
    decorate();
    document.querySelector("#composer textarea").focus();
    if (id) return [composer];
    const before = aside ?? {text: "", files: []};
    aside = undefined;
    return chat === editedIn ? [before] : []; // another chat is shown now, with its own draft
  }

  document.addEventListener("keydown", event => {
    if (event.key !== "Escape" || !edited || !event.target.closest("#composer")) return;
    document.querySelector("#cancel-edit").click();
  });

  Object.assign(window.sightline, {
    rows: tell, turn: () => pressed, measureSoon, goesOn, beginEdit, editBegan, editing, isSomethingAside,
  });
})();
