/// What must happen in one step inside a partition of the presence store. README.md has the layout of the keys.
///
/// KEYS[1] is the partition. Every other key begins with it and so has its tag: who else is touched (a rival's Login,
/// a lease that has ended) is known only inside. ARGV[1] is the server's run id, ARGV[2] the time in microseconds, or 0
/// for the server's own clock, which is the only one that all callers share.
enum PresenceScripts {
    static let all = [register, unregister, lease, adopt, lookup, revoke]

    /// Registers: lease in microseconds, then twelve arguments an item. Answers an item each: {0, epoch, life,
    /// displaced ...}, {1, token epoch}: revoked, {2, entry}: a later one is there, {3}: too many.
    static let register = RedisScript(
        "register",
        prelude + changes + """
            local micros=tonumber(ARGV[3])
            local function register(i)
              local user,session,login,platform=ARGV[i],ARGV[i+1],ARGV[i+2],ARGV[i+3]
              local welcomed,token=tonumber(ARGV[i+7]),ARGV[i+8]
              local known=greater(ARGV[i+9],call('GET',P..'t:'..user) or '0')
              if less(token,known) then return {1,known} end
              local live=load(user)
              for _,e in ipairs(live) do
                if e[1]==session and e[2]==login then
                  if e[8]~=token then e[8]=token save(user,live) end
                  return {0,e[9],ensure(login,micros).life,{}}
                end
              end
              local rest,rivals={},{}
              for _,e in ipairs(live) do
                if ARGV[i+6]=='0' and e[3]==platform then rivals[#rivals+1]=e else rest[#rest+1]=e end
              end
              for _,e in ipairs(rivals) do
                if welcomed<e[7] or (welcomed==e[7] and before(session,e[1])) then return {2,show(e)} end
              end
              if #rest>=tonumber(ARGV[i+10]) then return {3} end
              local displaced={}
              for _,e in ipairs(rivals) do forget(e) displaced[#displaced+1]=show(e) end
              local l=ensure(login,micros)
              local keep=tonumber(ARGV[i+6])
              local e={session,login,platform,ARGV[i+4],ARGV[i+5],keep,welcomed,token,epoch(),l.gen,ARGV[i+11]}
              rest[#rest+1]=e
              save(user,rest)
              call('HSET',index(e),session,user)
              weigh(e,1)
              return {0,e[9],l.life,displaced}
            end
            local out={}
            for i=4,#ARGV,12 do out[#out+1]=register(i) end
            return out
            """)

    /// Unregisters: user, session, epoch of each item.
    static let unregister = RedisScript(
        "unregister",
        prelude + changes + """
            for i=3,#ARGV,3 do
              local live,rest=load(ARGV[i]),{}
              for _,e in ipairs(live) do
                if e[1]==ARGV[i+1] and text(e[9])==ARGV[i+2] then forget(e) else rest[#rest+1]=e end
              end
              if #rest<#live then save(ARGV[i],rest) end
            end
            return 1
            """)

    /// Renews a lease: Login, length in microseconds, slices to show. Answers {life, kind, sums, shown}; kind 0: it
    /// began just now, 1: a registration began it, 2: all partitions had this life once. Buries leases that have ended
    /// and removes some of what the buried held.
    static let lease = RedisScript(
        "lease",
        prelude + changes + """
            local login,micros=ARGV[3],tonumber(ARGV[4])
            local ended=call('ZRANGEBYSCORE',P..'z','-inf','('..text(now),'LIMIT','0','16')
            for _,other in ipairs(ended) do if other~=login then bury(other) end end
            local l,existed=ensure(login,micros)
            call('HSET',P..'l:'..login,'until',text(now+micros))
            call('ZADD',P..'z',text(now+micros),login)
            local shown={}
            for i=5,#ARGV do
              local all=call('HGETALL',P..'i:'..login..':'..text(l.gen)..':'..ARGV[i])
              for n=1,#all,2 do
                for _,e in ipairs(load(all[n+1])) do
                  if e[1]==all[n] and e[2]==login then shown[#shown+1]={all[n+1],show(e)} end
                end
              end
            end
            local kind=1
            if not existed then kind=0 elseif l.whole then kind=2 end
            local sums=call('GET',P..'s:'..login..':'..text(l.gen)) or ''
            local left=300
            local dead=call('LINDEX',P..'d',0)
            if dead then
              local at=tonumber(call('HGET',P,'sweep') or '0')
              while at<256 and left>0 do
                local all=call('HGETALL',P..'i:'..dead..':'..at)
                for n=1,#all,2 do save(all[n+1],load(all[n+1])) end
                if #all>0 then call('DEL',P..'i:'..dead..':'..at) end
                at=at+1
                left=left-1-#all/2
              end
              if at<256 then call('HSET',P,'sweep',at) else call('LPOP',P..'d') call('HDEL',P,'sweep') end
            end
            return {l.life,kind,sums,shown}
            """)

    /// Gives a lease the life that all partitions are to have: Login, the life it was seen with, the new one. 0: it has
    /// another one by now.
    static let adopt = RedisScript(
        "adopt",
        prelude + """
            local l=lease(ARGV[3])
            if not l or (l.life~=ARGV[4] and l.life~=ARGV[5]) then return 0 end
            call('HSET',P..'l:'..ARGV[3],'life',ARGV[5],'whole','1')
            return 1
            """)

    /// Looks users up: how long after its begin a partition does not know, users. Answers whether absent means unknown,
    /// then {token epoch, entries} of each.
    static let lookup = RedisScript(
        "lookup",
        prelude + """
            local out={now<born+tonumber(ARGV[3]) and 1 or 0}
            for i=4,#ARGV do
              local entries={}
              for _,e in ipairs(load(ARGV[i])) do entries[#entries+1]=show(e) end
              out[#out+1]={call('GET',P..'t:'..ARGV[i]) or '0',entries}
            end
            return out
            """)

    /// Raises token epochs: user and epoch of each item.
    static let revoke = RedisScript(
        "revoke",
        prelude + """
            for i=3,#ARGV,2 do
              local key=P..'t:'..ARGV[i]
              call('SET',key,greater(ARGV[i+1],call('GET',key) or '0'))
            end
            return 1
            """)

    /// Reading. An entry is {session, login, platform, device, site, keeps others, welcomed, token epoch, epoch,
    /// generation of its lease, hash}; it counts while its lease lives and is of that generation. Numbers stay below
    /// 2^53, which is as far as Lua counts exactly; token epochs are decimal texts, because they are the app's.
    private static let prelude = """
        local P,run,now,call=KEYS[1],ARGV[1],tonumber(ARGV[2]),redis.call
        if now==0 then local t=call('TIME') now=t[1]*1000000+t[2] end
        local function text(n) return string.format('%.0f',n) end
        local meta=call('HMGET',P,'run','born')
        local born=tonumber(meta[2] or '0')
        if meta[1]~=run then
          born=now
          call('HSET',P,'run',run,'born',text(now))
        end
        local function less(a,b) if #a~=#b then return #a<#b end return a<b end
        local function greater(a,b) if less(a,b) then return b end return a end
        local leases={}
        local function lease(login)
          local l=leases[login]
          if l==nil then
            local r=call('HMGET',P..'l:'..login,'until','gen','life','whole')
            l=false
            if r[1] and tonumber(r[1])>=now then l={gen=tonumber(r[2]),life=r[3],whole=r[4]=='1'} end
            leases[login]=l
          end
          return l
        end
        local function load(user)
          local raw,live=call('GET',P..'u:'..user),{}
          if raw then
            for _,e in ipairs(cmsgpack.unpack(raw)) do
              local l=lease(e[2])
              if l and l.gen==e[10] then live[#live+1]=e end
            end
          end
          return live
        end
        local function show(e) return {e[1],e[2],e[3],e[4],e[5],e[6],e[7],e[8],e[9]} end

        """

    /// Writing. The sums of a lease's slices are 256 times eight bytes, high byte first; Lua adds them in halves.
    private static let changes = """
        local function epoch()
          local e=tonumber(call('HGET',P,'epoch') or '0')+1
          if e<now then e=now end
          call('HSET',P,'epoch',text(e))
          return e
        end
        local function bury(login)
          local gen=call('HGET',P..'l:'..login,'gen')
          if gen then
            call('RPUSH',P..'d',login..':'..gen)
            call('DEL',P..'l:'..login,P..'s:'..login..':'..gen)
          end
          call('ZREM',P..'z',login)
          leases[login]=false
        end
        local function ensure(login,micros)
          local l=lease(login)
          if l then return l,true end
          bury(login)
          local e=epoch()
          l={gen=e,life=text(e),whole=false}
          call('HSET',P..'l:'..login,'until',text(now+micros),'gen',l.life,'life',l.life,'whole','0')
          call('ZADD',P..'z',text(now+micros),login)
          leases[login]=l
          return l,false
        end
        local function save(user,list)
          if #list==0 then call('DEL',P..'u:'..user) else call('SET',P..'u:'..user,cmsgpack.pack(list)) end
        end
        local function index(e) return P..'i:'..e[2]..':'..text(e[10])..':'..string.byte(e[11],8) end
        local function weigh(e,sign)
          local key,at=P..'s:'..e[2]..':'..text(e[10]),string.byte(e[11],8)*8
          local high,low=struct.unpack('>I4I4',e[11])
          local sum=call('GETRANGE',key,at,at+7)
          local h,l=0,0
          if #sum==8 then h,l=struct.unpack('>I4I4',sum) end
          l=l+sign*low
          h=h+sign*high
          if l>=4294967296 then l=l-4294967296 h=h+1 elseif l<0 then l=l+4294967296 h=h-1 end
          call('SETRANGE',key,at,struct.pack('>I4I4',h%4294967296,l))
        end
        local function forget(e)
          call('HDEL',index(e),e[1])
          weigh(e,-1)
        end
        local function before(a,b)
          for i=1,math.min(#a,#b) do
            local x,y=string.byte(a,i),string.byte(b,i)
            if x~=y then return x<y end
          end
          return #a<#b
        end

        """
}
