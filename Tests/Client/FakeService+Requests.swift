import Foundation
import Identity
import NIOCore
import Wire

// What is not sending: sync, state, presence, history, and an echo service of an app.
extension FakeService {
    mutating func request(_ session: Int, _ header: Frame.RequestHeader, _ body: ByteBuffer) {
        let answer: ByteBuffer
        switch (header.svid, header.method) {
        case (4, 1): answer = sync(session).buffer
        case (4, 2): answer = setState(session, SetStateRequest(body: body)).buffer
        case (5, let method): answer = presence(session, PresenceRequest(body: body), subscribe: method == 2).buffer
        case (6, 1): answer = history(session, HistoryRequest(body: body)).buffer
        case (1000, 1): answer = ByteBuffer(string: "echo " + String(buffer: body))
        default:
            let failure = Failure(.noSuchService, "the fake has no service \(header.svid)")
            return out.append((session, .failure(requestID: header.requestID, failure.buffer)))
        }
        out.append((session, .response(requestID: header.requestID, answer)))
    }

    private func sync(_ session: Int) -> SyncResponse {
        let user = sessions[session]?.user ?? ""
        var response = SyncResponse()
        response.token = Data("t".utf8)
        for (key, all) in rows.sorted(by: { $0.key < $1.key }) {
            guard let name = ConversationName(key), name.members.contains(user) else { continue }
            var entry = ConversationEntry()
            entry.conversation = key
            entry.joinedSeq = 1
            entry.readSeq = read[key]?[user] ?? 0
            entry.deliveredSeq = delivered[key]?[user] ?? 0
            entry.headSeq = all.last?.seq ?? 0
            entry.headN = all.last?.n ?? 0
            entry.unread = UInt64(
                all.count { row in
                    guard row.seq > entry.readSeq, let message = try? ChatMessage(serializedBytes: Array(row.message))
                    else { return false }
                    return message.sender != user && !message.control
                })
            if let peer = name.peer(of: user) {
                entry.peer = peer
                entry.peerReadSeq = read[key]?[peer] ?? 0
                entry.peerDeliveredSeq = delivered[key]?[peer] ?? 0
            }
            response.entries.append(entry)
        }
        return response
    }

    private mutating func setState(_ session: Int, _ request: SetStateRequest?) -> SetStateResponse {
        let user = sessions[session]?.user ?? ""
        var response = SetStateResponse()
        for change in request?.changes ?? [] {
            let key = change.conversation
            read[key, default: [:]][user] = max(read[key]?[user] ?? 0, change.readSeq)
            delivered[key, default: [:]][user] = max(delivered[key]?[user] ?? 0, change.deliveredSeq)
            var result = StateResult()
            result.ok = true
            response.results.append(result)
            var hint = StateHint()
            hint.conversation = key
            hint.userID = user
            hint.readSeq = change.readSeq
            hint.deliveredSeq = change.deliveredSeq
            let body = (try? hint.serializedData()) ?? Data()
            let members = ConversationName(key)?.members ?? []
            for (id, other) in sessions.sorted(by: { $0.key < $1.key })
            where id != session && members.contains(other.user) {
                happen(id, svid: 4, name: "state", body: body)
            }
        }
        return response
    }

    mutating func happen(_ session: Int, svid: UInt32, name: String, body: Data) {
        var event = Event()
        event.svid = svid
        event.name = name
        event.body = body
        out.append((session, .event(event.buffer)))
    }

    private func isOnline(_ user: String) -> Bool { sessions.values.contains { $0.ready && $0.user == user } }

    private mutating func presence(_ session: Int, _ request: PresenceRequest?, subscribe: Bool) -> PresenceResponse {
        let users = request?.userIds ?? []
        if subscribe { sessions[session]?.watched = Set(users) }
        var response = PresenceResponse()
        response.users = users.map { user in
            var presence = UserPresence()
            presence.userID = user
            presence.state = isOnline(user) ? .presenceOnline : .presenceOffline
            return presence
        }
        return response
    }

    mutating func tellPresence(of user: String) {
        var change = PresenceChange()
        change.userID = user
        change.online = isOnline(user)
        let body = (try? change.serializedData()) ?? Data()
        for (id, session) in sessions.sorted(by: { $0.key < $1.key })
        where session.watched.contains(user) {
            happen(id, svid: 5, name: "presence", body: body)
        }
    }

    private mutating func history(_ session: Int, _ request: HistoryRequest?) -> HistoryResponse {
        let user = sessions[session]?.user ?? ""
        var response = HistoryResponse()
        for query in request?.queries ?? [] {
            var page = HistoryPage()
            page.conversation = query.conversation
            let all = rows[query.conversation] ?? []
            if ConversationName(query.conversation)?.members.contains(user) != true {
                page.failure = Failure(.notAMember, "not yours")
            } else if random.chance(faults.failedPage) {
                page.failure = Failure(.historyUnavailable, "fault")
            } else {
                let limit = Int(query.limit)
                if query.fromSeq > 0 {
                    page.messages = Array(all.filter { $0.seq >= query.fromSeq }.prefix(limit))
                } else {
                    page.messages = all.filter { query.beforeSeq == 0 || $0.seq < query.beforeSeq }.suffix(limit)
                }
                page.headSeq = all.last?.seq ?? 0
                page.firstVisibleSeq = 1
            }
            response.pages.append(page)
        }
        return response
    }

    /// A service's `notify`: a message of the user's control conversation.
    mutating func notify(_ user: String, svid: UInt32, text: String) {
        var message = ChatMessage()
        message.kind = .contentNotice
        message.content = Data(text.utf8)
        message.svid = svid
        message.sentMs = nowMS
        let row = append(message, to: "u:" + user)
        for (id, session) in sessions.sorted(by: { $0.key < $1.key })
        where session.ready && session.user == user {
            deliver(id) { .push(pushID: $0, row.buffer) }
        }
    }
}
