/// What a trace id may be. Clients choose it and every service on the way logs it, so it must neither be long nor hold
/// what breaks a line.
public enum TraceRule {
    public static let maxBytes = 64

    /// 1 to 64 bytes of printable ASCII without space.
    public static func isLegal(_ bytes: some Collection<UInt8>) -> Bool {
        (1...maxBytes).contains(bytes.count) && bytes.allSatisfy { (0x21...0x7e).contains($0) }
    }

    /// The id itself, or "" (no trace) when it is none.
    public static func legal(_ id: String) -> String { id.isEmpty || isLegal(id.utf8) ? id : "" }
}
