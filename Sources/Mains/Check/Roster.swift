import Foundation
import Identity
import Machinery
import Wire

/// Who takes part in a run: users, their devices, and which pairs talk. Made from the seed; never changes.
struct Roster: Sendable {
    struct Device: Sendable, Equatable {
        var user: Int
        var name: String
        var platform: String
    }
    struct Conversation: Sendable, Equatable {
        var name: String
        var members: [Int]
    }

    /// In front of every user name and text of the run, so that runs over one data folder do not mix.
    let tag: String
    let users: [String]
    let devices: [Device]
    let conversations: [Conversation]
    let index: [String: Int]
    /// User -> conversations, and user -> devices.
    let conversationsOf: [[Int]]
    let devicesOf: [[Int]]

    static let platforms = ["desktop", "web"]

    init(users count: Int, devicesPerUser: Int, partners: Int, seed: UInt64, tag: String) {
        var random = SeededRandom(seed: seed)
        let names = (0..<count).map { "\(tag)-\($0)" }
        var devices: [Device] = []
        var devicesOf = [[Int]](repeating: [], count: count)
        for user in 0..<count {
            for device in 0..<devicesPerUser {
                devicesOf[user].append(devices.count)
                devices.append(Device(user: user, name: "d\(device)", platform: Self.platforms[device]))
            }
        }
        var conversations: [Conversation] = []
        var index: [String: Int] = [:]
        var conversationsOf = [[Int]](repeating: [], count: count)
        for user in 0..<count {
            for _ in 0..<partners {
                let other = (user + Int.random(in: 1..<count, using: &random)) % count
                let name = ConversationName.pair(of: names[user], and: names[other]).id
                guard index[name] == nil else { continue }
                index[name] = conversations.count
                conversationsOf[user].append(conversations.count)
                conversationsOf[other].append(conversations.count)
                conversations.append(Conversation(name: name, members: [user, other]))
            }
        }
        self.tag = tag
        self.users = names
        self.devices = devices
        self.conversations = conversations
        self.index = index
        self.conversationsOf = conversationsOf
        self.devicesOf = devicesOf
    }

    /// The text of a message: the run, its number, and a little ballast that depends on the number.
    func text(_ number: Int) -> String {
        "\(tag) #\(number) " + String(repeating: "la", count: number % 24)
    }

    /// What a stored or pushed message is in this run.
    func row(_ pushed: PushedMessage) -> Row {
        var row = Row(seq: pushed.seq, n: pushed.n, timeMS: pushed.timeMs)
        guard let message = try? ChatMessage(serializedBytes: pushed.message) else { return row }
        row.control = message.control
        guard let user = userIndex(message.sender), let number = number(inText: message.content),
            number == Self.number(inID: message.clientMsgID), message.content == Data(text(number).utf8),
            let device = devicesOf[user].first(where: { devices[$0].name == message.device })
        else { return row }
        row.number = number
        row.device = device
        return row
    }

    private func userIndex(_ name: String) -> Int? {
        guard name.hasPrefix(tag + "-"), let number = Int(name.dropFirst(tag.count + 1)) else { return nil }
        return users.indices.contains(number) ? number : nil
    }

    private func number(inText content: Data) -> Int? {
        var number = 0
        var digits = 0
        guard let hash = content.firstIndex(of: UInt8(ascii: "#")) else { return nil }
        for byte in content[(hash + 1)...] {
            guard (48...57).contains(byte), digits < 10 else { break }
            number = number * 10 + Int(byte - 48)
            digits += 1
        }
        return digits > 0 ? number : nil
    }

    /// The client_msg_id of a message: its last four bytes are the number, so that nothing has to be remembered.
    static func messageID(_ number: Int, timeMS: UInt64, random: UInt64) -> Data {
        // `MessageID` lays its random words down lowest byte first.
        let last = UInt64(UInt32(truncatingIfNeeded: number).byteSwapped) << 32 | random & 0xffff_ffff
        return Data(MessageID.make(timeMS: timeMS, random: (random, last)))
    }

    static func number(inID id: Data) -> Int? {
        guard id.count == MessageID.byteCount else { return nil }
        return id.suffix(4).reduce(0) { $0 << 8 | Int($1) }
    }
}

/// One message at its place, reduced to what the judgement needs.
struct Row: Sendable, Equatable {
    var seq: UInt64
    var n: UInt64
    var timeMS: UInt64
    var control = false
    /// nil: nothing that this run sent.
    var number: Int?
    /// Index of the device that sent it, by what the message says.
    var device: Int?
}
