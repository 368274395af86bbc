// The one WebSocket: a request gets a number, its messages go to the room that asked, and each is acknowledged once it has been handled.

export class Connection {
  // onWaits: is called with true when something was asked, and with false at its first answer, or when it is no longer wanted.
  constructor(onModels, onLost, onWaits) {
    this.live = true;
    this.onWaits = onWaits;
    this.onModels = onModels;
    this.onLost = onLost;
    this.number = 0;
    this.handlers = new Map();
    this.open();
  }

  open() {
    this.socket = new WebSocket(new URL("session", location.href.replace(/^http/, "ws").replace(/[?#].*/, "")));
    this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.socket.onclose = (event) => {
      this.handlers.clear();
      this.onWaits(false);
      this.onLost(event.reason);
      setTimeout(() => this.open(), 2000);
    };
  }

  receive(message) {
    if (message.models) return this.onModels(message.models, message.runs);
    const handler = this.handlers.get(message.id);
    if (message.done || message.error) this.handlers.delete(message.id);
    if (handler) {
      this.onWaits(false);
      handler(message);
    }
    if (!message.done && !message.error) this.send({ack: message.id});
  }

  // What can be asked of a room and a model: null, since anything can be.
  recordings() { return null; }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // Asks a room; what was asked before is no longer answered. Returns the number of the request.
  start(room, options, handler) {
    this.number += 1;
    this.handlers.clear();
    this.handlers.set(this.number, handler);
    this.onWaits(true);
    this.send({start: this.number, room, ...options});
    return this.number;
  }

  cancel() {
    this.handlers.clear();
    this.onWaits(false);
    this.send({cancel: this.number});
  }
}
