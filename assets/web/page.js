// The page's own script: the engine's state, pasted addresses, kept settings, a copy without the figures.
(() => {
  "use strict";
  const LOADING_MS = 1000, READY_MS = 2000;

  let menu = "", nextLook;

  // The state of the chosen model, in the masthead; and a new menu when a server comes or goes.
  async function refreshStatus() {
    const pill = document.getElementById("engine-status");
    if (!pill) return setTimeout(refreshStatus, 100);
    let wait = LOADING_MS;
    try {
      const model = document.querySelector("#model-facts [data-model]")?.dataset.model ?? "";
      const answer = await fetch(`status?model=${encodeURIComponent(model)}`, {cache: "no-store"});
      if (answer.status === 401) { // the app has begun anew, and has forgotten who is there
        pill.textContent = "Reload the page to log in again";
        pill.dataset.state = "failed";
        return;
      }
      const {state, words, ...now} = await answer.json();
      if (state === "ready") wait = READY_MS;
      if (menu && menu !== now.menu) document.querySelector("#refresh-menu").click();
      menu = now.menu;
      if (pill.textContent !== words) {
        pill.textContent = words;
        pill.dataset.state = state;
      }
    } catch {
      pill.textContent = "The app does not answer";
      pill.dataset.state = "failed";
    }
    clearTimeout(nextLook);
    nextLook = setTimeout(refreshStatus, document.hidden ? 4 * wait : wait);
  }

  // Another model was chosen: its state is shown at once.
  function watchModel() {
    const facts = document.querySelector("#model-facts");
    if (!facts) return requestAnimationFrame(watchModel);
    new MutationObserver(refreshStatus).observe(facts, {childList: true, subtree: true});
  }

  // Web addresses pasted as the whole message become pictures.
  function onPaste(event) {
    const box = event.target;
    if (!(box instanceof HTMLTextAreaElement) || !box.closest("#composer") || box.value.trim()) return;
    const text = event.clipboardData?.getData("text").trim() ?? "";
    if (!text.split(/\s+/).every(word => /^https?:\/\/\S+$/i.test(word))) return;
    const field = document.querySelector("#pasted-address textarea, #pasted-address input");
    field.value = text;
    field.dispatchEvent(new Event("input", {bubbles: true}));
    setTimeout(() => document.querySelector("#paste-address").click());
  }

  // What the copy button copies is the reply alone: not the line of figures under it, nor what waits in its place.
  const notReply = /\n?<(small|span) class="(?:reply-footer|loading|thinking)[^>]*>.*?<\/\1>/gs;
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = text => {
      const reply = text.replace(notReply, "");
      return write(reply === text ? text : reply.trimEnd());
    };
  }

  // The settings that this browser keeps; where storage is forbidden or full they last as long as the page.
  const settings = "sightline.settings";
  function kept() {
    try {
      return JSON.parse(localStorage.getItem(settings)) ?? {};
    } catch {
      return {};
    }
  }
  function keep(name, value) {
    try {
      localStorage.setItem(settings, JSON.stringify({...kept(), [name]: value}));
    } catch {}
  }

  // What a screen reader is to hear, besides what it finds by itself.
  const SAID = 20;
  function say(text) {
    let said = document.querySelector("#said");
    if (!said) {
      said = document.createElement("div");
      said.id = "said";
      said.setAttribute("role", "log");
      said.setAttribute("aria-label", "What is going on");
      document.querySelector(".gradio-container").append(said);
    }
    said.append(Object.assign(document.createElement("p"), {textContent: text}));
    while (said.childElementCount > SAID) said.firstElementChild.remove();
  }
  window.sightline = {kept, keep, say};

  // The list of chats stands open where there is room beside the conversation.
  function openChatsWhereWide() {
    const toggle = document.querySelector("#chats-bar .toggle-button");
    if (!toggle) return requestAnimationFrame(openChatsWhereWide);
    if (window.innerWidth > 1000) toggle.click();
  }

  // Where it covers the conversation, it goes when a chat was chosen.
  function onChosen(event) {
    const bar = event.target.closest?.("#chats-bar.open");
    if (!bar || window.innerWidth > 768 || !event.target.closest("#chats label input, #new-chat")) return;
    bar.querySelector(".toggle-button").click();
  }

  // The composer takes no file that has neither a picture's ending nor its type, and shows a blank sheet for
  // what the browser calls no picture, PDF and often HEIC. The server tells by content, makes a picture of each, and
  // says in the composer why something is none.
  const typeOf = Object.getOwnPropertyDescriptor(Blob.prototype, "type").get;
  Object.defineProperty(File.prototype, "type", {
    configurable: true,
    get() {
      const type = typeOf.call(this);
      return type.startsWith("image/") ? type : "image/*";
    },
  });

  document.addEventListener("paste", onPaste, true);
  document.addEventListener("click", onChosen);
  openChatsWhereWide();
  watchModel();
  refreshStatus();
})();
