"""`make campaign`: processes are killed, disks fail, files are damaged and commands are called with nonsense; nothing may be lost."""
