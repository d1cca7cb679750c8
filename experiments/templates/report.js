// A legend entry hides and shows its arm, or the intervals. Everything else on the page works without script.
document.documentElement.classList.add("scripted");
for (const button of document.querySelectorAll("[data-toggle], [data-intervals]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", shown);
    const marks = "toggle" in button.dataset ? `[data-arm="${button.dataset.toggle}"]` : ".interval";
    for (const mark of button.closest(".switched").querySelectorAll(marks)) mark.classList.toggle("off", !shown);
  });
}
