import Foundation
import Wire

/// The ordered keys of one session. At most one batch per key is on its way; what comes meanwhile waits. When an item
/// fails so that the client will send it again, nothing sent after it may pass: everything of its turn, waiting or
/// still to come, is answered `resend_in_order`, and the client sends again with the next turn.
struct OrderedKeys: Sendable {
    struct Held: Sendable, Equatable {
        let svid: UInt32
        let method: UInt32
        let requestID: UInt32
        let turn: UInt16
        let body: Data
        let traceID: String
    }

    enum Arrival: Equatable {
        /// It waits; `ready`: the key has something to send and was not known to.
        case held(ready: Bool)
        /// Something before it failed.
        case resendInOrder
        /// The key has too much waiting; it is broken from here on.
        case tooMany
        /// The session has too many keys: nothing can be remembered about this one, so the session has to end.
        case tooManyKeys
    }

    private struct Key {
        /// Frames of a lower turn come too late. More than 16 bits: the last turn can break too.
        var floor: UInt32 = 0
        var brokenMicros: UInt64 = 0
        var waiting: [Held] = []
        var inFlight = false
        /// It is in somebody's list of keys to send from.
        var listed = false

        var idle: Bool { waiting.isEmpty && !inFlight && !listed }
    }

    private var keys: [String: Key] = [:]

    var count: Int { keys.count }

    mutating func arrive(_ held: Held, key name: String, now: UInt64, config: LoginConfig) -> Arrival {
        if keys[name] == nil {
            if keys.count >= config.maxKeys { forgetIdle(now: now, config: config) }
            guard keys.count < config.maxKeys else { return .tooManyKeys }
        }
        return accept(held, into: &keys[name, default: Key()], now: now, most: config.maxPendingPerKey)
    }

    private func accept(_ held: Held, into key: inout Key, now: UInt64, most: Int) -> Arrival {
        guard held.turn >= key.floor else { return .resendInOrder }
        guard key.waiting.count < most else {
            // What is sent behind the refused one must not pass it; what waits already is before it and goes on.
            key.floor = UInt32(held.turn) + 1
            key.brokenMicros = now
            return .tooMany
        }
        key.waiting.append(held)
        let ready = !key.inFlight && !key.listed
        if ready { key.listed = true }
        return .held(ready: ready)
    }

    /// The next batch of a listed key: of one service, at most so many. Empty when it has none.
    mutating func takeBatch(_ name: String, most: Int) -> [Held] {
        guard var key = keys[name] else { return [] }
        defer { put(key, name) }
        key.listed = false
        guard !key.inFlight, let first = key.waiting.first else { return [] }
        let batch = Array(key.waiting.prefix(most).prefix { $0.svid == first.svid })
        key.waiting.removeFirst(batch.count)
        key.inFlight = true
        return batch
    }

    /// The batch of a key has ended.
    ///
    /// - Parameter broken: the turn of its first item that will be sent again; nil when there is none.
    /// - Returns: what is to be answered `resend_in_order`, and whether the key is to be listed again.
    mutating func settle(_ name: String, broken: UInt16?, now: UInt64) -> (late: [Held], ready: Bool) {
        guard var key = keys[name] else { return ([], false) }
        defer { put(key, name) }
        key.inFlight = false
        var late: [Held] = []
        if let broken {
            key.floor = max(key.floor, UInt32(broken) + 1)
            key.brokenMicros = now
            late = key.waiting.filter { $0.turn <= broken }
            key.waiting.removeAll { $0.turn <= broken }
        }
        let ready = !key.waiting.isEmpty && !key.listed
        if ready { key.listed = true }
        return (late, ready)
    }

    /// Keeps a key only while it says something: frames, a batch, or a floor.
    private mutating func put(_ key: Key, _ name: String) {
        keys[name] = key.idle && key.floor == 0 ? nil : key
    }

    private mutating func forgetIdle(now: UInt64, config: LoginConfig) {
        keys = keys.filter { !$0.value.idle || $0.value.brokenMicros + config.brokenKeyMS * 1000 > now }
    }
}
