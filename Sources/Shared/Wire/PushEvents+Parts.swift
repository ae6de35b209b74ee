extension PushEvents {
    /// Users in one call to PushProxy, which refuses a call with more than it can look up at once.
    public static let usersPerCall = 1024

    /// The events in calls that PushProxy takes: each names at most `most` users. An event for more of them is in
    /// several, with a part of its users each.
    public static func parts(_ events: [PushEvent], most: Int = usersPerCall) -> [PushEvents] {
        var parts: [PushEvents] = []
        var part = PushEvents()
        var users = 0
        for event in events {
            for start in stride(from: 0, to: event.users.count, by: most) {
                var piece = event
                if event.users.count > most {
                    piece.users = Array(event.users[start..<min(start + most, event.users.count)])
                }
                if users + piece.users.count > most {
                    parts.append(part)
                    part = PushEvents()
                    users = 0
                }
                part.events.append(piece)
                users += piece.users.count
            }
        }
        if !part.events.isEmpty { parts.append(part) }
        return parts
    }
}
