import { type DBSchema, type IDBPDatabase, openDB } from 'idb'
import type { Chat } from './chat.ts'

/** Where chats are kept between visits: this browser. */
export interface ChatStore {
  /** All chats, the one touched last first. */
  list(): Promise<Chat[]>
  put(chat: Chat): Promise<void>
  remove(id: string): Promise<void>
  clear(): Promise<void>
}

interface Schema extends DBSchema {
  chats: { key: string; value: Chat }
}

/** Chats in IndexedDB. A browser that refuses one gets a store that forgets. */
export async function openChatStore(): Promise<ChatStore> {
  let db: IDBPDatabase<Schema>
  try {
    db = await openDB<Schema>('chorale', 1, {
      upgrade: (database) => void database.createObjectStore('chats', { keyPath: 'id' }),
    })
  } catch {
    return forgetfulStore()
  }
  return {
    list: async () => newestFirst(await db.getAll('chats')),
    put: async (chat) => void (await db.put('chats', chat)),
    remove: async (id) => await db.delete('chats', id),
    clear: async () => await db.clear('chats'),
  }
}

function forgetfulStore(): ChatStore {
  const chats = new Map<string, Chat>()
  return {
    list: async () => newestFirst([...chats.values()]),
    put: async (chat) => void chats.set(chat.id, chat),
    remove: async (id) => void chats.delete(id),
    clear: async () => chats.clear(),
  }
}

function newestFirst(chats: readonly Chat[]): Chat[] {
  return [...chats].sort((a, b) => b.updatedAt - a.updatedAt)
}
