// The tabs of the masthead, and what is dropped onto the page while the captions are shown.
(() => {
  "use strict";
  const isShown = () => document.body.classList.contains("captions");

  function show(isCaptions, onShow) {
    const chat = document.querySelector("#tab-chat"), captions = document.querySelector("#tab-captions");
    document.body.classList.toggle("captions", isCaptions);
    chat.setAttribute("aria-selected", String(!isCaptions));
    captions.setAttribute("aria-selected", String(isCaptions));
    chat.tabIndex = isCaptions ? -1 : 0; // one stop for both, arrows go between
    captions.tabIndex = isCaptions ? 0 : -1;
    document.querySelector("#captions").hidden = !isCaptions;
    history.replaceState(null, "", isCaptions ? "#captions" : location.pathname + location.search);
    if (isCaptions) onShow();
  }

  // `onShow`: the captions are looked at; `onDrop` gets files; `mayLeave`: all that was written is saved.
  function begin({onShow, onDrop, mayLeave}) {
    if (!document.querySelector("#captions") || !document.querySelector("#tab-captions"))
      return requestAnimationFrame(() => begin({onShow, onDrop, mayLeave}));
    document.querySelector("#tab-chat").onclick = () => show(false);
    document.querySelector("#tab-captions").onclick = () => show(true, onShow);
    document.querySelector(".tabs").addEventListener("keydown", event => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const isCaptions = event.key === "ArrowRight";
      show(isCaptions, onShow);
      document.querySelector(isCaptions ? "#tab-captions" : "#tab-chat").focus();
    });
    document.addEventListener("click", event => { // the list of chats stays beside this
      if (isShown() && event.target.closest?.("#chats label, #found label, #new-chat")) show(false);
    });
    const within = event => isShown() && event.target.closest?.("#captions");
    document.addEventListener("dragover", event => within(event) && event.preventDefault());
    document.addEventListener("drop", async event => {
      if (!within(event)) return;
      event.preventDefault();
      document.querySelector(".dropzone")?.classList.remove("over");
      const plain = [...event.dataTransfer.files], walked = await window.sightline.captions.filesOf(event.dataTransfer.items);
      onDrop(walked.length ? walked : plain);
    });
    document.addEventListener("visibilitychange", () => !document.hidden && isShown() && onShow());
    window.addEventListener("beforeunload", event => { if (!mayLeave()) event.preventDefault(); });
    if (location.hash === "#captions") show(true, onShow);
  }

  Object.assign(window.sightline.captions, {begin});
})();
