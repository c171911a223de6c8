// Before the first paint: the theme that was chosen here; without one, the system's (in CSS).

const saved = localStorage.getItem("theme");
if (saved) document.documentElement.dataset.theme = saved;
