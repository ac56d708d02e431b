// A reply as it grows: the page follows the server's events, and Gradio's Chatbot shows what they tell.
(() => {
  "use strict";
  const NEAR = 60; // pixels from the end at which one still reads along
  const RETRY_MS = 1000, RETRIES = 5;

  // The end of a sentence, in scripts with spaces and without; or of a line.
  const SENTENCE = /(?:[.!?…][)\]"'”’*_]*(?=\s)|[。！？]|\n)/gu;
  const MARKS = /^\s*(?:[-+*#>|]+|\d+\.)\s+|[*_`~|]+|<[^>]*>/gmu;

  let source, growing, messages = [], frame = 0, isBehind = false, failures = 0, followed = "", heard;

  // The reply that grows in the chat that is shown, or in none ("").
  function follow(chat) {
    source?.close();
    source = undefined;
    if (chat !== followed) heard = undefined; // else a connection was lost, and what was heard is not said again
    followed = chat;
    messages = []; // nor may a frame that was waited for, as one that is not seen does, show them again
    isBehind = false;
    if (!chat) { // what could not be done because of that answer can be done now
      if (document.querySelector("#notice [data-while-answered]")) document.querySelector("#close-notice").click();
      return;
    }
    place();
    const mine = source = new EventSource(`replies/${encodeURIComponent(chat)}`);
    // The server says what the chat is now, and has the page follow again where the reply is not over.
    const settle = () => {
      if (source === mine) document.querySelector("#settled").click();
    };
    mine.onmessage = event => {
      failures = 0;
      const told = JSON.parse(event.data);
      messages = told.messages ?? longer(messages, told.tail);
      paint();
      announce();
    };
    mine.addEventListener("end", () => {
      mine.close();
      failures = 0;
      settle();
    });
    mine.onerror = () => { // the browser itself tries again where a connection is lost
      if (mine.readyState !== EventSource.CLOSED) return;
      setTimeout(settle, RETRY_MS * Math.min(failures, RETRIES));
      failures += 1;
    };
  }

  // The reply by its sentences, each once, and then what became of it: not by its tokens, nor again what there was
  // of one that goes on.
  function announce() {
    const shown = messages.filter(message => !message.metadata).map(message => message.content[0].text);
    const text = shown.find(text => !/^<(?:small|span) class="/.test(text)) ?? "";
    const footer = shown.find(text => text.startsWith('<small class="reply-footer'));
    heard ??= sightline.goesOn() ? text.length : 0;
    const ends = [...text.slice(heard).matchAll(SENTENCE)].map(end => heard + end.index + end[0].length);
    const until = footer ? text.length : ends.at(-1) ?? heard;
    for (const words of [text.slice(heard, until), footer ?? ""]) {
      const plain = words.replace(MARKS, "").replaceAll(/\s+/g, " ").trim();
      if (plain) sightline.say(plain);
    }
    heard = until;
  }

  function longer(messages, tail) {
    const last = messages.at(-1), [{text, ...rest}] = last.content;
    return [...messages.slice(0, -1), {...last, content: [{...rest, text: text + tail}]}];
  }

  // At once, but only once in a frame where the browser is slower than the server.
  function paint() {
    isBehind = frame !== 0;
    if (isBehind) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      if (isBehind) paint();
    });
    document.querySelector("#grown").click();
  }

  // Below the last message, in what scrolls; and whoever is at the end stays there. Again where Gradio has
  // made one of the two anew, and the other is out of the page with what it was in.
  function place() {
    growing = document.querySelector("#growing") ?? growing;
    const box = document.querySelector("#chat [role=log]");
    if (!box || !growing) return requestAnimationFrame(place);
    for (const log of [box, growing.querySelector("[role=log]")]) log?.setAttribute("aria-live", "off"); // announce()
    if (growing.parentElement === box) return;
    box.append(growing);
    let isNear = true;
    box.addEventListener("scroll", () => {
      isNear = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    }, {passive: true});
    new ResizeObserver(() => {
      if (isNear) box.scrollTop = box.scrollHeight;
    }).observe(growing);
  }

  Object.assign(window.sightline, {follow, grown: () => messages});
  place();
})();
