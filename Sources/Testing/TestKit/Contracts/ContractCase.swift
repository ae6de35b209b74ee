import Wire

/// One promise of a port, as a program: runs against a fresh store of any adapter.
public struct ContractCase<Port>: Sendable, CustomStringConvertible {
    public let name: String
    private let check: @Sendable (Port) throws -> Void

    init(_ name: String, _ check: @escaping @Sendable (Port) throws -> Void) {
        self.name = name
        self.check = check
    }

    /// - Throws: `ContractViolation`, or what the store threw where it should not have.
    public func run(_ port: Port) throws { try check(port) }

    public var description: String { name }
}

/// A promise that was not kept.
public struct ContractViolation: Error, CustomStringConvertible {
    public let description: String
}

/// Ends the case unless the two are equal.
func same<T: Equatable>(_ found: T, _ wanted: T, _ what: String, line: Int = #line) throws {
    if found != wanted { throw ContractViolation(description: "\(what): \(found) instead of \(wanted) (line \(line))") }
}

/// Ends the case unless it holds.
func holds(_ condition: Bool, _ what: String, line: Int = #line) throws {
    if !condition { throw ContractViolation(description: "not so: \(what) (line \(line))") }
}

/// The value, or the end of the case.
func some<T>(_ value: T?, _ what: String, line: Int = #line) throws -> T {
    guard let value else { throw ContractViolation(description: "missing: \(what) (line \(line))") }
    return value
}

/// The failure that the work ends with, or the end of the case.
func failure<T>(_ what: String, line: Int = #line, _ work: () throws(Failure) -> T) throws -> Failure {
    do throws(Failure) { _ = try work() } catch { return error }
    throw ContractViolation(description: "should have failed: \(what) (line \(line))")
}
