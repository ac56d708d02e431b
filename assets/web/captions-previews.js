// The pictures of the captioning tab. Each is asked for when it comes into view, a few at a time: neither thousands of
// them, nor one that is slow, hold up what else the page asks for.
(() => {
  "use strict";
  const AT_ONCE = 3, AROUND = "200px"; // the latter is how far from what is seen they are asked for
  const inView = new Set();
  let observer, loading = 0;

  function next() {
    for (const box of inView) {
      if (loading === AT_ONCE) return;
      inView.delete(box);
      observer.unobserve(box);
      if (box.isConnected) load(box);
    }
  }
  function load(box) {
    const {src} = box.dataset, picture = Object.assign(new Image(), {alt: "", src});
    const end = () => {
      loading -= 1;
      next();
    };
    loading += 1;
    picture.onload = () => {
      if (box.dataset.src === src) box.replaceChildren(picture);
      if (window.sightline.isDamaged(picture)) box.dispatchEvent(new Event("refused"));
      end();
    };
    picture.onerror = () => { // asked for again when its row is drawn the next time
      delete box.dataset.src;
      end();
    };
  }

  // Show the picture at an address, and until it comes its file's ending; without an address the sign of damage.
  // The box hears "refused" where the server could not open it, and says in the row why.
  function picture(box, src, name) {
    if (box.dataset.src === src) return;
    observer ??= new IntersectionObserver(seen => {
      for (const {target, isIntersecting} of seen) inView[isIntersecting ? "add" : "delete"](target);
      next();
    }, {root: document.querySelector("#captions-place"), rootMargin: AROUND});
    box.dataset.src = src;
    if (!src) return box.replaceChildren(Object.assign(new Image(), {src: "sightline/damaged.svg", alt: ""}));
    box.textContent = name.split(".").at(-1).slice(0, 4).toUpperCase();
    observer.observe(box);
  }

  Object.assign(window.sightline.captions, {picture});
})();
