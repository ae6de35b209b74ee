import Foundation
import Hummingbird
import Identity
import Wire

extension APIMethods {
    private struct NewUsers: Decodable { let users: [NewUser] }

    private struct NewUser: Decodable {
        let user_id: String
        let nickname: String?
        let avatar_url: String?
        /// base64
        let custom: Data?
    }

    private struct UserResults: Encodable { let results: [UserResult] }

    private struct UserResult: Encodable {
        let user_id: String
        let ok: Bool
        let error: ErrorBody?
    }

    /// Longest nickname, avatar URL and the app's own part of a profile, in bytes: User's limits.
    private static var nicknameBytes: Int { 256 }
    private static var avatarBytes: Int { 1024 }
    private static var customBytes: Int { 4096 }

    /// POST /v1/users: makes or updates users, each on its own: a bad one does not stop the others.
    func createUsers(_ request: Request, _ context: APIContext) async throws -> Response {
        let app = try await provenApp(request, context).app.appID
        let wanted = try await request.json(NewUsers.self, limit: config.limits.bodyBytes, context).users
        guard !wanted.isEmpty, wanted.count <= config.limits.usersPerRequest else {
            throw Failure(.malformedRequest, "users must hold 1 to \(config.limits.usersPerRequest) users")
        }
        var failures: [Failure] = wanted.map { fault(of: $0) ?? Failure() }
        let good = wanted.indices.filter { failures[$0].code == 0 }
        if !good.isEmpty {
            let stored = try await roles.put(good.map { put(app, wanted[$0]) })
            for (index, failure) in zip(good, stored) { failures[index] = failure }
        }
        let results = zip(wanted, failures).map { user, failure in
            let error = failure.code == 0 ? nil : ErrorBody(failure)
            return UserResult(user_id: user.user_id, ok: error == nil, error: error)
        }
        return Answer.json(UserResults(results: results))
    }

    private func fault(of user: NewUser) -> Failure? {
        do { _ = try checkedUser(user.user_id) } catch { return error as? Failure }
        guard (user.nickname ?? "").utf8.count <= Self.nicknameBytes else {
            return Failure(.malformedRequest, "nickname is at most \(Self.nicknameBytes) bytes")
        }
        guard (user.avatar_url ?? "").utf8.count <= Self.avatarBytes else {
            return Failure(.malformedRequest, "avatar_url is at most \(Self.avatarBytes) bytes")
        }
        guard (user.custom ?? Data()).count <= Self.customBytes else {
            return Failure(.malformedRequest, "custom is at most \(Self.customBytes) bytes")
        }
        return nil
    }

    private func put(_ app: String, _ user: NewUser) -> UserPut {
        UserPut.with {
            $0.appID = app
            $0.profile = .with {
                $0.userID = user.user_id
                $0.nickname = user.nickname ?? ""
                $0.avatarURL = user.avatar_url ?? ""
                $0.custom = user.custom ?? Data()
            }
        }
    }
}
