import Foundation
import ServiceSDK

/// What each method does.
struct Methods {
    enum Number {
        static let echo: UInt32 = 1
        static let time: UInt32 = 2
        static let remindMe: UInt32 = 3
        static let pushMe: UInt32 = 4
    }

    static let longestReminderSeconds = 86_400
    let instance: String
    let reminders: Reminders
    let users: Users

    func answer(_ requests: [ServiceRequest]) async -> [ServiceResponse] {
        var responses: [ServiceResponse] = []
        for request in requests { responses.append(await answer(request)) }
        return responses
    }

    private func answer(_ request: ServiceRequest) async -> ServiceResponse {
        switch request.method {
        // With the name, so that everybody can see how requests are spread.
        case Number.echo: return .success(request.body + Array(" (\(instance))".utf8))
        case Number.time: return .success(Array("\(WallClock.nowMS())".utf8))
        case Number.remindMe: return remind(request)
        case Number.pushMe:
            do {
                let devices = try await users.push(request.user, request.body)
                return .success(Array("\(devices)".utf8))
            } catch {
                return .failure(.serviceUnavailable("\(error)"))
            }
        default: return .failure(.noSuchMethod(request.method))
        }
    }

    private func remind(_ request: ServiceRequest) -> ServiceResponse {
        let parts = String(decoding: request.body, as: UTF8.self).split(separator: " ", maxSplits: 1)
        guard parts.count == 2, let seconds = Int(parts[0]), (0...Self.longestReminderSeconds).contains(seconds) else {
            return .failure(.malformedRequest("write: seconds (0 to \(Self.longestReminderSeconds)), a space, a text"))
        }
        let now = WallClock.nowMS()
        let reminder = Reminder(
            user: request.user, text: String(parts[1]), dueMS: now + UInt64(seconds) * 1000,
            id: .fresh(timeMS: now + UInt64(seconds) * 1000))
        guard reminders.add(reminder) else { return .failure(.overloaded("too many reminders are waiting")) }
        return .success(Array("ok".utf8))
    }
}
