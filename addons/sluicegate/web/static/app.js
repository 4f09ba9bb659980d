document.getElementById("app").textContent = "sluicegate";
