"""A tiny `argosy_serving`: takes the lock, answers on the admin socket, obeys SIGTERM. Standard library alone.

How it misbehaves is said by the variable FAKE: words separated by spaces.
"""

SOURCE = """
import fcntl, json, os, signal, socket, subprocess, sys, threading, time

spec = json.load(open(sys.argv[1]))
words = os.environ.get("FAKE", "").split()
lock = os.open(spec["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
state = {"id": spec["id"], "service": spec["service"], "revision": spec["revision"], "state": "loading",
         "generation": 0, "in_flight": 2, "queued": 1, "shed": 7, "run_s": 0.25, "reason": "", "pid": os.getpid()}
os.makedirs(spec["scratch"], exist_ok=True)

def settings():
    state["generation"] = json.load(open(spec["settings"]))["generation"] if os.path.exists(spec["settings"]) else 0

def fail(reason):
    json.dump({"code": "init_failed", "reason": reason}, open(spec["failure"], "w"))
    os._exit(3)

def end(*_):
    if "deaf" not in words:
        print("ends", flush=True)
        os._exit(0)

def serve(listener):
    while True:
        connection, _ = listener.accept()
        try:
            line = connection.recv(65536).decode().split("\\r\\n")[0]
            if "mute" in words:
                time.sleep(60)
            if line.startswith("POST /reload"):
                settings()
            lies = {**state, "pid": "x", "in_flight": None, "queued": "1", "generation": []}
            answer = json.dumps(lies if "lies" in words else state).encode()
            answer = b"[" * 100000 if "babbles" in words else answer
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(answer), answer))
            if line.startswith("POST /drain"):
                end()
        finally:
            connection.close()

settings()
signal.signal(signal.SIGTERM, end)
listener = socket.socket(socket.AF_UNIX)
listener.bind(spec["admin"]["unix"])
listener.listen(20)
threading.Thread(target=serve, args=(listener,), daemon=True).start()
print("starts", json.dumps(dict(os.environ)), flush=True)
if "helper" in words:
    child = subprocess.Popen(["sleep", "300"])
    open(os.path.join(spec["scratch"], "helper"), "w").write(str(child.pid))
if "forks" in words and os.fork() == 0:
    time.sleep(300)
if "broken" in words:
    fail("init() raised")
if "garbled" in words:
    open(spec["failure"], "w").write("[1]")
    os._exit(3)
if "exits" in words:
    os._exit(7)
if "hangs" not in words:
    state["state"] = "ready"
while True:
    time.sleep(60)
"""
