// The list of chats: chats from files; and by keyboard F2 renames, Delete deletes, Escape leaves the name as it was.
(() => {
  "use strict";
  const LISTS = "#chats, #found";
  const KEYS = [[LISTS, "F2", "#rename-chat"], [LISTS, "Delete", "#delete-chat"], ["#chat-naming", "Escape", "#cancel-name"]];

  // A chat from a file: the app answers with the new chat, or with the sentence why there is none.
  document.addEventListener("change", async event => {
    const picker = event.target;
    if (picker.id !== "import-file" || !picker.files.length) return;
    let told;
    try {
      const answer = await fetch("import", {method: "POST", body: picker.files[0]});
      told = answer.ok ? await answer.text() : JSON.stringify({error: await answer.text()});
    } catch {
      told = JSON.stringify({error: "The file could not be sent. Look at the connection, then try again."});
    }
    picker.value = "";
    const field = document.querySelector("#import-answer textarea, #import-answer input");
    field.value = told;
    field.dispatchEvent(new Event("input", {bubbles: true}));
    setTimeout(() => document.querySelector("#import-answered").click());
  });

  // Who points at a title that is cut off reads the whole of it.
  document.addEventListener("mouseover", ({target}) => {
    const chat = target.closest?.("#chats label, #found label");
    if (chat) chat.title = chat.textContent.trim();
  });

  document.addEventListener("keydown", event => {
    const [, , button] = KEYS.find(([where, key]) => event.key === key && event.target.closest(where)) ?? [];
    if (!button) return;
    event.preventDefault();
    document.querySelector(button)?.click();
  });
})();
