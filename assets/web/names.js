// Names and roles that Gradio leaves out, for those who hear the page.
(() => {
  "use strict";
  const MENDS = [
    ["#chat .image-container button:not([aria-label])", button => {
      button.setAttribute("aria-label", `Show ${button.querySelector("img")?.alt || "the picture"} large`);
    }],
    ["#close-notice:not([aria-label])", button => button.setAttribute("aria-label", "Close this notice")],
    ["#composer .thumbnail-wrapper[role=listitem]", item => item.setAttribute("role", "group")], // of no list
    ["#chat .latest[aria-label]:not([role])", message => message.setAttribute("role", "group")],
  ];
  let frame = 0;

  function mend() {
    frame = 0;
    for (const [where, how] of MENDS) document.querySelectorAll(where).forEach(how);
  }

  new MutationObserver(() => {
    frame ||= requestAnimationFrame(mend); // once a frame, however quickly a reply grows
  }).observe(document.documentElement, {childList: true, subtree: true});
})();
