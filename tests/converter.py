"""A converter's process that has imported TensorFlow already; the tests fork each conversion off it.

    python converter.py serve SOCKET        until its standard input ends
    python converter.py SOCKET FOLDER       stands in for `python -m keras_unetres.export.child FOLDER`

Importing TensorFlow takes ten times as long as converting a small network. What is asked of the real process, such as
what it imports and how it dies, is tested without this.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path


def serve(path: str) -> None:
    import ai_edge_quantizer.quantizer  # noqa: F401
    import tensorflow as tf

    from keras_unetres.export import child

    tf.lite.TFLiteConverter  # noqa: B018  # loads what converts
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        ready = select.select([listener, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            folder = connection.recv(4096).decode()
            worker = os.fork()
            if worker == 0:
                os.dup2(connection.fileno(), 0)  # ends with the one who asked
                os.dup2(os.open(Path(folder, "stderr.txt"), os.O_WRONLY | os.O_CREAT), 2)
                sys.argv = ["child", folder]
                os._exit(child.main())
            connection.sendall(str(os.waitpid(worker, 0)[1]).encode())
            os._exit(0)
        connection.close()


def ask(path: str, folder: str) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(folder.encode())
    status = int(connection.recv(64))
    sys.stderr.write(Path(folder, "stderr.txt").read_text(errors="replace"))
    sys.stderr.flush()
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        ask(*sys.argv[1:])
