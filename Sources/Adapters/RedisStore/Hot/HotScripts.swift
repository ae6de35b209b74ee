/// What must happen in one step inside a partition of the hot store. KEYS[1] is the partition and, as a hash, knows
/// which claim wrote each bucket last; the key of a conversation is KEYS[1], `:`, app, `:`, conversation, and holds its
/// rows as a list without holes, oldest first.
enum HotScripts {
    static let all = [put, read]

    /// Puts: bucket ("" without a claim), epoch, most rows, how many more before they are cut, milliseconds until a
    /// conversation that nobody writes is forgotten and until a row is too old, then runs: conversation, count, rows.
    /// Answers 0 when a later claim has written: then nothing was done.
    static let put = RedisScript(
        "put",
        prelude + """
            local bucket,epoch=ARGV[1],ARGV[2]
            if bucket~='' then
              local held=call('HGET',P,bucket)
              if held and less(epoch,held) then return 0 end
              if held~=epoch then call('HSET',P,bucket,epoch) end
            end
            local most,slack,ttl,age=tonumber(ARGV[3]),tonumber(ARGV[4]),ARGV[5],tonumber(ARGV[6])
            local i=7
            while i<=#ARGV do
              local key,count=P..':'..ARGV[i],tonumber(ARGV[i+1])
              local tail=call('LINDEX',key,-1)
              local last=tail and number(tail,2) or 0
              local newest
              for n=i+2,i+1+count do
                local seq=number(ARGV[n],2)
                if seq>last then
                  if last>0 and seq>last+1 then call('DEL',key) end
                  call('RPUSH',key,ARGV[n])
                  last=seq
                  newest=ARGV[n]
                end
              end
              if newest then
                if call('LLEN',key)>=most+slack then call('LTRIM',key,-most,-1) end
                local oldest=number(newest,14)-age
                while number(call('LINDEX',key,0),14)<oldest do call('LPOP',key) end
                call('PEXPIRE',key,ttl)
              end
              i=i+2+count
            end
            return 1
            """)

    /// Pages: most rows of a conversation that are answered, most bytes of a page, then five arguments a query:
    /// conversation, from, before, limit, at least. Answers an item each: 0 when the page is not here in full, else
    /// {head of the newest row, rows, recalled seqs}.
    static let read = RedisScript(
        "read",
        prelude + """
            local most,budget=tonumber(ARGV[1]),tonumber(ARGV[2])
            local function page(i)
              local key=P..':'..ARGV[i]
              local from,below,limit=tonumber(ARGV[i+1]),tonumber(ARGV[i+2]),tonumber(ARGV[i+3])
              local tail=call('LINDEX',key,-1)
              if not tail then return 0 end
              local last,length=number(tail,2),call('LLEN',key)
              local first=last-math.min(length,most)+1
              if tonumber(ARGV[i+4])>last then return 0 end
              local up=from>0
              if up then
                if from<first or from>last then return 0 end
                if below==0 then below=last+1 end
                below=math.min(below,last+1,from+limit)
              else
                if below>last+1 then return 0 end
                if below==0 then below=last+1 end
                from=math.max(1,below-limit)
                if from<first then return 0 end
              end
              local rows,recalled={},{}
              if from<below then
                local all=call('LRANGE',key,from-last-1,-1)
                local low,high,bytes=1,below-from,0
                local step=up and 1 or -1
                for n=up and low or high,up and high or low,step do
                  bytes=bytes+#all[n]
                  if bytes>budget and n~=(up and low or high) then
                    if up then high=n-1 else low=n+1 end
                    break
                  end
                end
                for n=low,high do rows[#rows+1]=all[n] end
                local seen={}
                for n=low,#all do
                  if bit.band(string.byte(all[n],1),4)>0 then
                    local target=number(all[n],20)
                    local at=target-from+1
                    if at>=low and at<=high and not seen[target] then
                      local row=all[at]
                      if bit.band(string.byte(row,1),1)==0 and sender(row)==sender(all[n]) then
                        seen[target]=true
                        recalled[#recalled+1]=target
                      end
                    end
                  end
                end
              end
              return {string.sub(tail,1,19),rows,recalled}
            end
            local out={}
            for i=3,#ARGV,5 do out[#out+1]=page(i) end
            return out
            """)

    /// Fields of a row (HotRow.swift) by their places, counted from 1.
    private static let prelude = """
        local P,call=KEYS[1],redis.call
        local function number(row,at)
          local a,b,c,d,e,f=string.byte(row,at,at+5)
          return ((((a*256+b)*256+c)*256+d)*256+e)*256+f
        end
        local function sender(row)
          local at=20
          if bit.band(string.byte(row,1),2)>0 then at=26 end
          local high,low=string.byte(row,at,at+1)
          return string.sub(row,at+2,at+1+high*256+low)
        end
        local function less(a,b) if #a~=#b then return #a<#b end return a<b end

        """
}
