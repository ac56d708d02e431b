// A reply as it grows: the page follows the server's events, and Gradio's Chatbot shows what they tell.
(() => {
  "use strict";
  const NEAR = 60; // pixels from the end at which one still reads along

  let source, messages = [], wait = 0, is_behind = false;

  // The reply that grows in the chat that is shown, or in none ("").
  function follow(chat) {
    source?.close();
    source = undefined;
    if (!chat) return;
    const mine = source = new EventSource(`replies/${encodeURIComponent(chat)}`);
    const end = () => {
      mine.close();
      if (source === mine) document.querySelector("#settled").click();
    };
    mine.onmessage = event => {
      const told = JSON.parse(event.data);
      messages = told.messages ?? longer(messages, told.tail);
      paint();
    };
    mine.addEventListener("end", end);
    mine.onerror = () => {
      if (mine.readyState === EventSource.CLOSED) end(); // it ended before this page came; else it tries again
    };
  }

  function longer(messages, tail) {
    const last = messages.at(-1), [{text, ...rest}] = last.content;
    return [...messages.slice(0, -1), {...last, content: [{...rest, text: text + tail}]}];
  }

  // At once, but only once in a frame where the browser is slower than the server.
  function paint() {
    if (wait) return void (is_behind = true);
    is_behind = false;
    wait = requestAnimationFrame(() => {
      wait = 0;
      if (is_behind) paint();
    });
    document.querySelector("#grown").click();
  }

  // Below the last message, in what scrolls; and whoever is at the end stays there.
  function place() {
    const box = document.querySelector("#chat [role=log]"), growing = document.querySelector("#growing");
    if (!box || !growing) return requestAnimationFrame(place);
    box.append(growing);
    let is_near = true;
    box.addEventListener("scroll", () => {
      is_near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    }, {passive: true});
    new ResizeObserver(() => {
      if (is_near) box.scrollTop = box.scrollHeight;
    }).observe(growing);
  }

  Object.assign(window.sightline, {follow, grown: () => messages});
  place();
})();
