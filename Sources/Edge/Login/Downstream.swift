import NIOCore
import RPC
import Wire

extension LoginMachine {
    /// Closes sessions and says why. Sessions that are not here are gone already, which is what was wanted.
    mutating func kick(_ call: CallID, _ request: KickRequest) {
        for item in request.items {
            guard let id = find(item.session) else { continue }
            write(id, .kick(item.kick.buffer))
            finish(id)
        }
        emit(.reply(call, .done(Done())))
    }

    /// Closes a session that Online does not want any more.
    mutating func kick(_ id: ConnectionID, code failure: Failure) {
        var kick = Kick()
        kick.code = failure.code
        kick.reason = failure.reason
        kick.message = failure.message
        write(id, .kick(kick.buffer))
        finish(id)
    }

    /// Best effort: written once, to those who take bytes now.
    mutating func event(_ call: CallID, _ request: EventRequest) {
        var response = EventResponse()
        for item in request.items {
            let body = item.event.buffer
            var result = EventResult()
            // No client takes such a frame: it would end the connections of all of them.
            guard body.readableBytes < FrameLimits.afterLoginBytes else {
                result.sessions = Array(repeating: .notHere, count: item.sessions.count)
                response.results.append(result)
                continue
            }
            for session in item.sessions {
                guard let id = find(session), let connection = connections[id] else {
                    result.sessions.append(.notHere)
                    continue
                }
                guard connection.stuckMicros == 0 else {
                    result.sessions.append(.full)
                    continue
                }
                write(id, .event(body))
                result.sessions.append(.delivered)
            }
            response.results.append(result)
        }
        emit(.reply(call, .eventResponse(response)))
    }

    // MARK: - Going away

    /// Takes nothing new, lets what is in flight end, says goodbye to some at a time, unregisters; at the latest after
    /// `drainMS`.
    mutating func drain() {
        guard drainUntilMicros == nil else { return }
        drainUntilMicros = now.micros + config.drainMS * 1000
        let ticks = Int(max(1, config.drainSpreadMS / (DeadlineWheel.slotMicros / 1000)))
        drainShare = max(config.drainPerTick, (sessions.count + ticks - 1) / ticks)
        drainLeft = drainShare
        for id in connections.keys.sorted() {
            if connections[id]?.handshake != nil {
                refuse(id, Failure(.goingAway, "this server is going away"))
            } else {
                drainSession(id)
            }
        }
        drainTick()
    }

    /// Says goodbye to a session that has nothing in flight, when it is its turn.
    mutating func drainSession(_ id: ConnectionID) {
        guard drainLeft > 0, let session = connections[id]?.session, session.inFlight == 0, session.heldBytes == 0,
            session.window.isEmpty || pastDrain
        else { return }
        drainLeft -= 1
        refuse(id, Failure(.goingAway, "this server is going away"))
    }

    private var pastDrain: Bool { drainUntilMicros.map { $0 <= now.micros } ?? false }

    mutating func drainTick() {
        guard drainUntilMicros != nil, !drained else { return }
        for id in sessions.values.sorted() {
            if pastDrain {
                refuse(id, Failure(.goingAway, "this server is going away"))
            } else {
                drainSession(id)
            }
        }
        let clean = sessions.isEmpty && presence.leaving.isEmpty && !presence.leavingUnderWay
        guard clean || pastDrain else { return }
        drained = true
        announce(leaving: true)
        output(.drained)
    }
}
