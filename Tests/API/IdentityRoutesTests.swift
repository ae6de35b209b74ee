import APIRole
import Crypto
import Foundation
import Testing
import Wire

/// Taking a token apart the way Login does.
private func claims(_ token: String, secret: String) throws -> (header: [String: Any], body: [String: Any]) {
    func bytes(_ part: Substring) -> Data {
        var text = part.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
        while text.count % 4 != 0 { text += "=" }
        return Data(base64Encoded: text) ?? Data()
    }
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    try #require(parts.count == 3)
    let signed = Data("\(parts[0]).\(parts[1])".utf8)
    let key = SymmetricKey(data: Data(secret.utf8))
    #expect(HMAC<SHA256>.isValidAuthenticationCode(bytes(parts[2]), authenticating: signed, using: key))
    let header = try JSONSerialization.jsonObject(with: bytes(parts[0])) as? [String: Any]
    let body = try JSONSerialization.jsonObject(with: bytes(parts[1])) as? [String: Any]
    return (try #require(header), try #require(body))
}

@Suite struct IdentityRoutesTests {
    @Test func anAppIsMadeAndItsSecretWorksAtOnce() async throws {
        try await withAPI { http, _ in
            let made = try await http.post("/v1/apps", #"{"name":"Shop"}"#, bearer: "admin-key")
            #expect(made.status == 201)
            let id = try #require(made.json["app_id"] as? String)
            let key = try #require(made.json["key_id"] as? String)
            let secret = try #require(made.json["secret"] as? String)
            #expect(key.hasPrefix(id + ".") && secret.count >= 43)
            for name in [id, key] {
                let issued = try await http.post("/v1/tokens", #"{"user_id":"ann"}"#, basic: "\(name):\(secret)")
                #expect(issued.status == 201)
                let (header, body) = try claims(try #require(issued.json["token"] as? String), secret: secret)
                #expect(header["kid"] as? String == key && header["alg"] as? String == "HS256")
                #expect(
                    body["app"] as? String == id && body["sub"] as? String == "ann" && (body["te"] as? Int ?? 0) == 0)
            }
        }
    }

    @Test func appsNeedTheAdminKey() async throws {
        try await withAPI { http, _ in
            let answer1 = try await http.post("/v1/apps", "{}")
            #expect(answer1.status == 401)
            let answer2 = try await http.post("/v1/apps", "{}", bearer: "admin-kez")
            #expect(answer2.reason == "bad_credentials")
            let again = try await http.post("/v1/apps", #"{"app_id":"demo"}"#, bearer: "admin-key")
            #expect(again.status == 409 && again.reason == "already_exists")
            let bad = try await http.post("/v1/apps", #"{"app_id":"No Spaces"}"#, bearer: "admin-key")
            #expect(bad.status == 400 && bad.reason == "malformed_request")
        }
        try await withAPI {
            $0.adminKey = nil
        } _: { http, _ in
            let answer3 = try await http.post("/v1/apps", "{}", bearer: "")
            #expect(answer3.status == 403)
        }
    }

    @Test func aTokenCarriesTheEpochAndMakesTheUser() async throws {
        try await withAPI { http, roles in
            let first = try await http.post("/v1/tokens", #"{"user_id":"new","ttl_s":60}"#, basic: "demo:s3cret")
            #expect(roles.state.withLock { $0.users["demo/new"]?.exists } == true)
            let (_, body) = try claims(try #require(first.json["token"] as? String), secret: "s3cret")
            let issued = try #require(body["iat"] as? Int)
            #expect(body["exp"] as? Int == issued + 60)

            let revoked = try await http.post("/v1/tokens/revoke", #"{"user_id":"new"}"#, basic: "demo:s3cret")
            #expect(revoked.status == 200 && revoked.json["token_epoch"] as? Int == 1)
            let told = roles.state.withLock { $0.revoked }
            #expect(told.map(\.userID) == ["new"] && told.map(\.tokenEpoch) == [1])

            let second = try await http.post("/v1/tokens", #"{"user_id":"new"}"#, basic: "demo.k1:s3cret")
            let (_, later) = try claims(try #require(second.json["token"] as? String), secret: "s3cret")
            #expect(later["te"] as? Int == 1)
        }
    }

    @Test(arguments: [
        (#"{"user_id":"a b"}"#, 400), (#"{"user_id":"ok","ttl_s":0}"#, 400),
        (#"{"user_id":"ok","ttl_s":99999999}"#, 400),
        (#"{"ttl_s":60}"#, 400), (#"{"user_id":5}"#, 400), ("{", 400), ("", 400), ("[]", 400),
    ])
    func badTokenRequestsAreExplained(body: String, status: Int) async throws {
        try await withAPI { http, _ in
            let answer = try await http.post("/v1/tokens", body, basic: "demo:s3cret")
            #expect(answer.status == status && answer.reason == "malformed_request")
            #expect((answer.json["message"] as? String)?.isEmpty == false)
            #expect(answer.json["retryable"] as? Bool == false)
        }
    }

    @Test func revokingNeedsAUser() async throws {
        try await withAPI { http, roles in
            let answer = try await http.post("/v1/tokens/revoke", #"{"user_id":"nobody"}"#, basic: "demo:s3cret")
            #expect(answer.status == 404 && answer.reason == "unknown_user")
            #expect(roles.state.withLock { $0.revoked }.isEmpty)
        }
    }

    @Test func wrongAndRetiredSecretsAreRefusedAlike() async throws {
        try await withAPI { http, _ in
            for basic in ["demo:wrong", "demo.k0:old", "demo.k9:s3cret"] {
                let answer = try await http.post("/v1/tokens", #"{"user_id":"u"}"#, basic: basic)
                #expect(answer.status == 401 && answer.reason == "bad_credentials", "\(basic)")
                #expect(answer.headers["www-authenticate"] != nil)
            }
            let answer4 = try await http.post("/v1/tokens", "{}")
            #expect(answer4.status == 401)
        }
    }

    @Test func guessingIsSlowedDownAndOthersAreNot() async throws {
        try await withAPI { http, _ in
            var statuses: [Int] = []
            for guess in 0..<7 {
                statuses.append(try await http.post("/v1/tokens", #"{"user_id":"u"}"#, basic: "demo:\(guess)").status)
            }
            #expect(statuses == [401, 401, 401, 401, 401, 429, 429])
            // Even the right secret has to wait now: otherwise the limit would tell a right guess from a wrong one.
            let right = try await http.post("/v1/tokens", #"{"user_id":"u"}"#, basic: "demo:s3cret")
            #expect(right.status == 429 && right.reason == "rate_limited" && right.headers["retry-after"] == "5")
            let answer5 = try await http.post("/demo/login", #"{"user":"alice","password":"pässword"}"#)
            #expect(answer5.status == 200)
        }
    }

    @Test func anAppServerIsNoGuesserHoweverManyRequestsItHas() async throws {
        try await withAPI { http, roles in
            // Every request waits for the app's keys at the same time, as after a moment of silence.
            let waiting = roles.hold()
            let statuses = try await withThrowingTaskGroup(of: Int.self) { tasks in
                for _ in 0..<20 {
                    tasks.addTask {
                        try await http.post("/v1/tokens", #"{"user_id":"bob"}"#, basic: "demo:s3cret").status
                    }
                }
                tasks.addTask {
                    var count = 0
                    for await _ in waiting {
                        count += 1
                        if count == 20 { break }
                    }
                    roles.release()
                    return 0
                }
                return try await tasks.reduce(into: [Int]()) { $0.append($1) }
            }
            #expect(statuses.filter { $0 == 201 }.count == 20, "\(statuses)")
        }
    }

    @Test func parallelGuessesAreCountedAll() async throws {
        try await withAPI { http, _ in
            let statuses = try await withThrowingTaskGroup(of: Int.self) { tasks in
                for guess in 0..<20 {
                    tasks.addTask { try await http.post("/v1/tokens", "{}", basic: "demo:\(guess)").status }
                }
                return try await tasks.reduce(into: [Int]()) { $0.append($1) }
            }
            #expect(statuses.filter { $0 == 401 }.count == 5 && statuses.filter { $0 == 429 }.count == 15)
        }
    }

    @Test func strangersCannotLockAnAppOut() async throws {
        try await withAPI { http, _ in
            for address in 2..<16 {
                for _ in 0..<5 {
                    let guess = try await http.from("127.0.0.\(address)").post("/v1/tokens", "{}", basic: "demo:x")
                    #expect(guess.status == 401)
                }
            }
            let right = try await http.post("/v1/tokens", #"{"user_id":"bob"}"#, basic: "demo:s3cret")
            #expect(right.status == 201)
        }
    }

    @Test func behindAProxyItsHeaderSaysWhoGuesses() async throws {
        try await withAPI {
            $0.forwardedHeader = "X-Forwarded-For"
        } _: { http, _ in
            func ask(_ secret: String, _ forwarded: String) async throws -> Int {
                let basic = "Basic " + Data("demo:\(secret)".utf8).base64EncodedString()
                return try await http.send(
                    "POST", "/v1/tokens", #"{"user_id":"bob"}"#,
                    headers: ["Authorization": basic, "X-Forwarded-For": forwarded]
                ).status
            }
            // The last entry is the proxy's own; whatever stands before it the client may have made up.
            var statuses: [Int] = []
            for guess in 0..<7 { statuses.append(try await ask("no", "198.51.100.\(guess), 203.0.113.7")) }
            #expect(statuses == [401, 401, 401, 401, 401, 429, 429])
            #expect(try await ask("s3cret", "203.0.113.7") == 429)
            #expect(try await ask("s3cret", "203.0.113.7, 203.0.113.8") == 201)
            // Addresses of one IPv6 customer are one.
            statuses = []
            for guess in 0..<7 { statuses.append(try await ask("no", "2001:db8:1:2::\(guess)")) }
            #expect(statuses == [401, 401, 401, 401, 401, 429, 429])
            #expect(try await ask("s3cret", "2001:db8:1:3::1") == 201)
        }
    }

    @Test func revocationReachesOnlineBeforeTheRow() async throws {
        let (users, revoke): (UInt16, UInt16) = (76, 17)
        try await withAPI { http, roles in
            roles.state.withLock { $0.refusedKinds = [users] }
            let half = try await http.post("/v1/tokens/revoke", #"{"user_id":"bob"}"#, basic: "demo:s3cret")
            #expect(half.status == 503)
            #expect(roles.state.withLock { $0.revoked }.map(\.tokenEpoch) == [1], "logins are refused already")
            roles.state.withLock { $0.refusedKinds = [] }
            let again = try await http.post("/v1/tokens/revoke", #"{"user_id":"bob"}"#, basic: "demo:s3cret")
            #expect(again.status == 200 && again.json["token_epoch"] as? Int == 1, "a retry arrives at the same epoch")
            let kinds = roles.state.withLock { $0.kinds }.filter { [users, revoke].contains($0) }
            #expect(kinds == [revoke, revoke, users])
        }
    }

    @Test func ofTwoWhoMakeAnAppAtOnceOneIsTold() async throws {
        try await withAPI { http, roles in
            let waiting = roles.hold()
            let statuses = try await withThrowingTaskGroup(of: Int.self) { tasks in
                for _ in 0..<2 {
                    tasks.addTask { try await http.post("/v1/apps", #"{"app_id":"race"}"#, bearer: "admin-key").status }
                }
                tasks.addTask {
                    var count = 0
                    for await _ in waiting {
                        count += 1
                        if count == 2 { break }
                    }
                    roles.release()
                    return 0
                }
                return try await tasks.reduce(into: [Int]()) { $0.append($1) }
            }
            #expect(statuses.sorted() == [0, 201, 409])
        }
    }

    @Test func anAppIsSuspendedAndItsKeysAreChanged() async throws {
        try await withAPI { http, roles in
            func patch(_ body: String, bearer: String = "admin-key") async throws -> HTTPAnswer {
                try await http.send("PATCH", "/v1/apps/demo", body, headers: ["Authorization": "Bearer " + bearer])
            }
            func token(_ basic: String) async throws -> HTTPAnswer {
                try await http.post("/v1/tokens", #"{"user_id":"bob"}"#, basic: basic)
            }
            #expect(try await patch("{}", bearer: "wrong").status == 401)
            let suspended = try await patch(#"{"suspended":true,"name":"Shop"}"#)
            #expect(suspended.status == 200 && suspended.json["suspended"] as? Bool == true)
            #expect(suspended.json["name"] as? String == "Shop" && suspended.json["secret"] == nil)
            #expect(try await token("demo:s3cret").reason == "app_suspended", "at once at this server")
            #expect(try await patch(#"{"suspended":false}"#).status == 200)
            #expect(try await token("demo:s3cret").status == 201)
            #expect(try await patch(#"{"retire_keys":["demo.k1"]}"#).reason == "malformed_request", "the last key")
            let rolled = try await patch(#"{"add_key":true,"retire_keys":["demo.k1"]}"#)
            let (key, secret) = (rolled.json["key_id"] as? String ?? "", rolled.json["secret"] as? String ?? "")
            #expect(key.hasPrefix("demo.") && secret.count >= 43)
            #expect(try await token("demo:s3cret").status == 401, "retired at once")
            #expect(try await token("\(key):\(secret)").status == 201)
            #expect(try await patch(#"{"retire_keys":["demo.k7"]}"#).status == 404)
            let keys = rolled.json["keys"] as? [[String: Any]] ?? []
            #expect(keys.map { $0["retired"] as? Bool } == [true, true, false])
            #expect(roles.state.withLock { $0.apps["demo"]?.name } == "Shop", "what was not named stays")
            let other = try await http.send(
                "PATCH", "/v1/apps/nothere", "{}", headers: ["Authorization": "Bearer admin-key"])
            #expect(other.status == 404)
        }
    }

    @Test func aSuspendedAppIsTold() async throws {
        try await withAPI { http, roles in
            roles.state.withLock { $0.apps["demo"]?.suspended = true }
            let answer = try await http.post("/v1/tokens", #"{"user_id":"u"}"#, basic: "demo:s3cret")
            #expect(answer.status == 403 && answer.reason == "app_suspended")
        }
    }

    @Test func usersAreMadeEachOnItsOwn() async throws {
        try await withAPI { http, roles in
            let users = #"{"user_id":"a","nickname":"Ann"},{"user_id":"b c"},{"user_id":"d","custom":"AQI="}"#
            let body = "{\"users\":[\(users)]}"
            let answer = try await http.post("/v1/users", body, basic: "demo:s3cret")
            let results = try #require(answer.json["results"] as? [[String: Any]])
            #expect(results.map { $0["ok"] as? Bool } == [true, false, true])
            #expect((results[1]["error"] as? [String: Any])?["reason"] as? String == "malformed_request")
            roles.state.withLock { state in
                #expect(Set(state.profiles.keys) == ["demo/a", "demo/d"])
                #expect(state.profiles["demo/a"]?.nickname == "Ann")
                #expect(state.profiles["demo/d"]?.custom == Data([1, 2]))
            }
        }
    }

    @Test func usersKeepWhatIsNotNamed() async throws {
        try await withAPI { http, roles in
            func post(_ fields: String) async throws -> Profile {
                let body = #"{"users":[{"user_id":"a"\#(fields)}]}"#
                let answer = try await http.post("/v1/users", body, basic: "demo:s3cret")
                #expect((answer.json["results"] as? [[String: Any]])?.first?["ok"] as? Bool == true, "\(fields)")
                return roles.state.withLock { $0.profiles["demo/a"] ?? Profile() }
            }
            _ = try await post(#","nickname":"Ann","avatar_url":"a.png","custom":"AQI=""#)
            let renamed = try await post(#","nickname":"Anna""#)
            #expect([renamed.nickname, renamed.avatarURL] == ["Anna", "a.png"] && renamed.custom == Data([1, 2]))
            let same = try await post("")
            #expect(same == renamed, "nothing named, nothing changed")
            let cleared = try await post(#","avatar_url":null,"custom":"""#)
            #expect([cleared.nickname, cleared.avatarURL] == ["Anna", ""] && cleared.custom.isEmpty)
            let odd = try await http.post(
                "/v1/users", #"{"users":[{"user_id":"a","nickname":7}]}"#, basic: "demo:s3cret")
            #expect(odd.status == 400 && odd.reason == "malformed_request")
        }
    }

    @Test func demoLogin() async throws {
        try await withAPI {
            $0.webSocket = .port(7000, tls: false)
        } _: { http, roles in
            let good = try await http.post("/demo/login", #"{"user":"alice","password":"pässword"}"#)
            #expect(good.status == 200 && good.json["ws_url"] as? String == "ws://chat.example:7000/ws")
            let (_, body) = try claims(try #require(good.json["token"] as? String), secret: "s3cret")
            #expect(body["sub"] as? String == "alice")
            for wrong in [#"{"user":"alice","password":"x"}"#, #"{"user":"mallory","password":""}"#] {
                let answer6 = try await http.post("/demo/login", wrong)
                #expect(answer6.status == 401)
            }
            #expect(roles.state.withLock { $0.users["demo/mallory"] } == nil)
        }
        try await withAPI {
            $0.demo = nil
        } _: { http, _ in
            let answer7 = try await http.post("/demo/login", #"{"user":"alice","password":"pässword"}"#)
            #expect(answer7.status == 404)
        }
    }
}
