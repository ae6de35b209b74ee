import NIOCore
import Wire

// Connecting, the handshake, heartbeats, reconnecting, and what closes a connection for good.
extension ClientMachine {
    mutating func connect(_ nowMS: UInt64) {
        phase = .connecting(sinceMS: nowMS)
        actions.append(.notify(.connection(.connecting)))
        actions.append(.connect(address: redirect))
        redirect = nil
    }

    mutating func greet(_ nowMS: UInt64) {
        guard case .connecting = phase else { return actions.append(.close) }
        phase = .greeting(sinceMS: nowMS)
        var hello = Hello()
        hello.version = 1
        hello.client = config.client
        write(.hello(hello.buffer))
    }

    mutating func write(_ frame: Frame) {
        out.append(frame)
    }

    mutating func received(_ frame: Frame, _ nowMS: UInt64) {
        lastHeardMS = nowMS
        switch (phase, frame) {
        case (.idle, _), (.ended, _), (.waiting, _), (.connecting, _): break
        case (_, .error(let body)): refused(Failure(body: body), nowMS)
        case (_, .kick(let body)): kicked(Kick(body: body), nowMS)
        case (_, .redirect(let body)):
            redirect = Redirect(body: body)?.address
            dropConnection("the server sent us elsewhere", nowMS)
        case (.greeting, .welcome(let body)): welcomed(Welcome(body: body), nowMS)
        case (.authenticating, .authenticated(let body)): authenticated(Authenticated(body: body), nowMS)
        case (.ready, _): receivedWhileReady(frame, nowMS)
        default: dropConnection("the server broke the handshake", nowMS)
        }
    }

    private mutating func receivedWhileReady(_ frame: Frame, _ nowMS: UInt64) {
        switch frame {
        case .pong: break
        case .ping: write(.pong)
        case .response(let id, let body): answered(id, .ok(Array(body.readableBytesView)), nowMS)
        case .failure(let id, let body):
            answered(id, .failed(Failure(body: body) ?? Failure(.internalError, "an unreadable failure")), nowMS)
        case .push(let id, let body): pushed(id, body, nowMS)
        case .seqNotice(let id, let body): noticed(id, body, nowMS)
        case .syncNeeded: requestSync(nowMS)
        case .event(let body): happened(body, nowMS)
        default: dropConnection("the server sent a frame that only clients send", nowMS)
        }
    }

    private mutating func welcomed(_ welcome: Welcome?, _ nowMS: UInt64) {
        guard let welcome, welcome.version == 1 else { return dropConnection("an unreadable WELCOME", nowMS) }
        serverAheadMS = Int64(clamping: welcome.serverTimeMs) - Int64(clamping: nowMS)
        if welcome.heartbeatMs > 0 { heartbeatMS = UInt64(welcome.heartbeatMs) }
        if welcome.pushAckEvery > 0 { ackEvery = Int(welcome.pushAckEvery) }
        if welcome.pushAckMs > 0 { ackMS = UInt64(welcome.pushAckMs) }
        phase = .authenticating(sinceMS: nowMS)
        var request = Authenticate()
        request.token = config.token
        request.deviceID = config.deviceID
        request.platform = config.platform
        write(.authenticate(request.buffer))
    }

    private mutating func authenticated(_ answer: Authenticated?, _ nowMS: UInt64) {
        guard let answer else { return dropConnection("an unreadable AUTHENTICATED", nowMS) }
        phase = .ready
        reconnect.reset()
        userID = answer.userID
        contiguousPush = 0
        earlyPushes = []
        unackedPushes = 0
        ackDueMS = nil
        actions.append(.notify(.connection(.online(userID: answer.userID, sessionID: answer.sessionID))))
        requestSync(nowMS)
        // The sync may not name a conversation whose hole was seen over an earlier connection.
        for key in conversations.keys.sorted() {
            guard var conversation = conversations[key] else { continue }
            watchGap(&conversation, nowMS)
        }
        if !watched.isEmpty { sendWatch(nowMS) }
        if !positions.isEmpty { positionsDueMS = nowMS }
    }

    /// The connection is of no more use: close it, then as if it had been lost.
    mutating func dropConnection(_ reason: String, _ nowMS: UInt64) {
        actions.append(.close)
        lost(reason, nowMS)
    }

    mutating func lost(_ reason: String, _ nowMS: UInt64) {
        switch phase {
        case .idle, .waiting, .ended: return
        case .connecting, .greeting, .authenticating, .ready: break
        }
        forgetConnection()
        let wait = redirect == nil ? reconnect.nextMS(using: &random) : 0
        phase = .waiting(untilMS: nowMS + wait)
        actions.append(.notify(.connection(.waiting(retryMS: wait, reason: reason))))
    }

    /// Requests of the app are answered (their outcome is unknown); messages go back to the outbox and are resent.
    private mutating func forgetConnection() {
        out.removeAll()
        syncRunning = false
        positionsRunning = false
        gapDueMS = [:]
        resendDueMS = [:]
        for request in openRequests.sorted(by: { $0.key < $1.key }) {
            switch request.value.purpose {
            case .app(let handle):
                let failure = Failure(.outcomeUnknown, "the connection was lost before the answer came")
                actions.append(.notify(.answer(handle: handle, .failed(failure))))
            case .state(let changes):
                for (conversation, change) in changes { positions[conversation, default: .init()].merge(change) }
            case .send, .sync, .history, .watch: break
            }
        }
        openRequests = [:]
        for key in conversations.keys {
            conversations[key]?.connectionLost()
            if conversations[key]?.outbox.isEmpty == false { unwritten.insert(key) }
        }
    }

    /// ERROR: wrong tokens and versions stay wrong, so only what may pass is tried again.
    private mutating func refused(_ failure: Failure?, _ nowMS: UInt64) {
        guard let failure else { return dropConnection("an unreadable ERROR", nowMS) }
        let permanent =
            !failure.retryable && ((200..<300).contains(failure.code) || failure.isCode(.unsupportedVersion))
        guard permanent else { return dropConnection(failure.message, nowMS) }
        end(failure)
    }

    private mutating func kicked(_ kick: Kick?, _ nowMS: UInt64) {
        guard let kick, (200..<300).contains(kick.code) else {
            return dropConnection(kick?.message ?? "an unreadable KICK", nowMS)
        }
        var failure = Failure()
        failure.code = kick.code
        failure.reason = kick.reason
        failure.message = kick.message
        end(failure)
    }

    mutating func stop() {
        if phase == .ready { out.append(.bye) }
        if !out.isEmpty { actions.append(.write(out)) }
        out = []
        end(nil)
    }

    private mutating func end(_ failure: Failure?) {
        forgetConnection()
        let gone = failure ?? Failure(.goingAway, "the client was closed before the message was accepted")
        for conversation in conversations.values.sorted(by: { $0.state.conversation < $1.state.conversation }) {
            for pending in conversation.outbox {
                actions.append(.notify(.failed(handle: pending.outgoing.handle, gone)))
            }
        }
        phase = .ended
        actions.append(.close)
        actions.append(.notify(.ended(failure)))
    }
}

extension LocalConversation {
    /// A new connection is a new session for the server: turns start at 0 again and everything unacked is resent.
    mutating func connectionLost() {
        turn = 0
        sendsInFlight = 0
        breaks = 0
        brokenWaitMS = nil
        repairing = false
        for index in outbox.indices { outbox[index].written = false }
    }
}
