// The page's own script: the engine's state, pasted addresses, and a copy without the figures.
(() => {
  "use strict";
  const LOADING_MS = 1000, READY_MS = 2000;

  // The engine's state, in the masthead.
  async function refreshStatus() {
    const pill = document.getElementById("engine-status");
    if (!pill) return setTimeout(refreshStatus, 100);
    let wait = LOADING_MS;
    try {
      const answer = await fetch("status", {cache: "no-store"});
      const {state, words} = await answer.json();
      if (state === "ready") wait = READY_MS;
      if (pill.textContent !== words) {
        pill.textContent = words;
        pill.dataset.state = state;
      }
    } catch {
      pill.textContent = "The app does not answer";
      pill.dataset.state = "failed";
    }
    setTimeout(refreshStatus, document.hidden ? 4 * wait : wait);
  }

  // A web address pasted as the whole message becomes a picture.
  function onPaste(event) {
    const box = event.target;
    if (!(box instanceof HTMLTextAreaElement) || !box.closest("#composer") || box.value.trim()) return;
    const text = event.clipboardData?.getData("text").trim() ?? "";
    if (!/^https?:\/\/\S+$/i.test(text)) return;
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

  // The list of chats stands open where there is room beside the conversation.
  function openChatsWhereWide() {
    const toggle = document.querySelector("#chats-bar .toggle-button");
    if (!toggle) return requestAnimationFrame(openChatsWhereWide);
    if (window.innerWidth > 1000) toggle.click();
  }

  document.addEventListener("paste", onPaste, true);
  openChatsWhereWide();
  refreshStatus();
})();
